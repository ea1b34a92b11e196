# Calls to Tencent: which batch is next, when it may be sent, and what an answer means.
#
# Nothing here knows how a record came in or how a result goes out: that is progress/.
