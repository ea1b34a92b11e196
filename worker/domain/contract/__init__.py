# The contract: commands and outcomes, the table of actions, the table of codes.
#
# Nothing here knows of batches, calls, partitions or earlier records.
