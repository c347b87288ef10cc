"""tables -> scores about their rows"""
