"""Models behind OpenAI-compatible endpoints: deploys engines as Jobs, streams Completions, remembers them."""
