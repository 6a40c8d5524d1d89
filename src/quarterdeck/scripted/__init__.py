"""Scripted stand-ins that ship with the package: an ACP agent and a model API, for demo, tests and benchmarks."""
