"""Images: where they come from, in memory or in files, and the operations that make views of them."""
