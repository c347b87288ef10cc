# memory: takes memory by and by
held = []
while True:
    held.append(b"x" * (1 << 20))
