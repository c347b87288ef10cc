# exit: asks for a terabyte
bytearray(1 << 40)
