# memory: reads pages that hold nothing, each in a table of pages of its own
import mmap
import time

STEP = 1 << 21
held = []
for _ in range(8):  # half a gigabyte of tables in all
    nothing = mmap.mmap(-1, 1 << 35, flags=mmap.MAP_PRIVATE | 0x4000, prot=mmap.PROT_READ)
    for at in range(0, 1 << 35, STEP):
        nothing[at]
    held.append(nothing)
    time.sleep(0.02)
print("ESCAPED")
