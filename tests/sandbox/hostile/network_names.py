# ok: asks for names and sends without a connection
import socket

try:
    socket.getaddrinfo("example.com", 80)
    print("ESCAPED")
except OSError:
    pass
try:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"secret", ("8.8.8.8", 53))
        print("ESCAPED")
except OSError:
    pass
