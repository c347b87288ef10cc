"""pairs -> rows of a dataset type"""
