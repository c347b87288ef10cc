"""tables -> measures"""
