"""JudgeService: turns completions into verdicts, by rules or by asking a model."""
