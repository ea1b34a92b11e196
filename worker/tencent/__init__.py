# The package that calls Tencent Cloud Chat: signatures, connections, one call with its attempts.
#
# It knows the domain's nouns (Attempt, AttemptResult, Verdict), and nothing of Kafka, the settings' files or its callers.
# Every network failure becomes an AttemptResult here. No exception, log line or repr that leaves carries a URL, a key or a
# UserSig.
