# ok: pairs of sockets of every family, of which only those of files are let through
import errno
import socket

for family in range(2, 46):
    try:
        socket.socketpair(family, socket.SOCK_STREAM)
        print("ESCAPED", family)
    except OSError as error:
        if error.errno != errno.EAFNOSUPPORT:
            print("ESCAPED as far as", family, error)
