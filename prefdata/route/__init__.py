"""votes -> assignments: who should annotate what next"""
