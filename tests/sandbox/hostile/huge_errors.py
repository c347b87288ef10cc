# output: complains without end, from many processes
import os
import sys

for _ in range(4):
    os.fork()
while True:
    sys.stderr.write("x" * 10000)
