# ok: sockets of other processes, by name and by path
import json
import socket

host = json.load(open("host.json"))
for address in (host["socket"], "\0" + host["token"], "/run/docker.sock", "/run/systemd/private",
                "/run/dbus/system_bus_socket", "/tmp/.X11-unix/X0"):  # fmt: skip
    with socket.socket(socket.AF_UNIX) as one:
        try:
            one.connect(address)
            print("ESCAPED", address)
        except OSError:
            pass
