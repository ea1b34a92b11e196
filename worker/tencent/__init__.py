# The room that speaks to Tencent Cloud Chat: signatures, connections, one call with its tries.
#
# It knows the domain's nouns (Send, Try, Verdict) and nothing of Kafka, of the settings' files or of who runs it.
# Every failure of the network becomes a Try here; no exception, log line or repr that leaves carries a URL, a key or a UserSig.
