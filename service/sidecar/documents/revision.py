"""Which revision of reading and cutting documents this is."""

# Rises with every change that gives some document another text or other chunks, so that an index
# can read again what an older revision read. tests/unit/sidecar/documents/test_revision.py holds
# it to what comes out.
READER = 1
