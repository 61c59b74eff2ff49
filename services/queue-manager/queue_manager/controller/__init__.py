"""Makes true what the documents say: topics, Jobs, drains, ends. It alone launches."""
