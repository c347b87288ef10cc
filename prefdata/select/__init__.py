"""rows -> fewer rows"""
