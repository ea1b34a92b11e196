# The pure core: values in, values out.
#
# No clock, thread, socket, randomness or logging: time is an argument, and what is to happen in the world
# is returned as an effect. Everything here can be played by a test in any order of events.
