"""An S3 server of the test's own, and a proxy before it that misbehaves on demand."""
