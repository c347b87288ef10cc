# ok: talks to itself, by memory for TCP that is the machine's
import socket

for family in (socket.AF_INET, socket.AF_INET6):
    try:
        socket.socket(family)
        print("ESCAPED", family)
    except OSError:
        pass
