"""Facts about one agent's workspace: stored by somebody, or collected by a collector.

`service.MetadataService` is the whole of it for a program that embeds it, `server.serve` the
stand-alone HTTP server. Knows nobody above the foundation.
"""
