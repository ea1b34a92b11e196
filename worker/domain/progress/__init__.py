# Commands in progress: from an admitted record to a result that may be published, each user's in order.
#
# Nothing here decides what is sent, or when: that is calls/.
