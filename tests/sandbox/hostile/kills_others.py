# ok: kills everything, its parents first
import json
import os
import signal

pid = json.load(open("host.json"))["pid"]
for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    for other in (1, os.getppid(), pid, -pid, -1):
        try:
            os.kill(other, number)
        except OSError:
            pass
