"""votes, pairs -> rationales, principles: why this one, and what rules a dataset follows"""
