"""A stand-in for Backblaze B2: b2sdk's simulator of the native API, and an S3 front of our own on the same files.

The real b2 command, b2sdk and restic talk to it over HTTP with application keys that were made by its own API. What it
cannot show: Backblaze's rates, its TLS, its own servers' behaviour beyond what is written here. All is in memory.
"""
