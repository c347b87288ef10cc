# ok: connects to the machine it runs on, and to the world
import json
import socket

port = json.load(open("host.json"))["port"]
for host, number in (("127.0.0.1", port), ("localhost", port), ("1.1.1.1", 53), ("::1", port),
                     ("169.254.169.254", 80), ("10.0.0.1", 80)):  # fmt: skip
    try:
        socket.create_connection((host, number), timeout=0.2)
        print("ESCAPED", host)
    except OSError:
        pass
