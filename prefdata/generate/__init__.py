"""prompts -> completions"""
