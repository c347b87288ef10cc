# ok: is another program by the time anybody looks
import os

with open("other", "w") as file:
    file.write("#!/bin/sh\necho other")
os.chmod("other", 0o700)
os.execv("/tmp/other", ["/usr/sbin/init"])
