"""DataService: rows of many sources, made into examples, filtered, mixed, and published as versioned datasets."""
