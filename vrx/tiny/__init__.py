"""The embedded world: scenes, questions about them, and a small trained LVLM that knows them (`model=tiny`)."""
