"""SQL that finds the batches whose rows were promised to a server, and are not all read.

Servers and workers start the process that reads them; they share this SQL with it.
"""

SMALL_FILE_BYTES = 64 * 2**20  # never waits for a larger one, because another process reads it
SILENT_SECONDS = 6.0  # without a heartbeat, until a reader elsewhere is considered gone

IS_OPEN = "read_request IS NOT NULL AND (status = 'validating' OR (status = 'in_progress' AND ingesting))"

SELECT_OPEN = f"""
SELECT b.id, b.holder_id, b.input_file_id, f.location, coalesce(f.bytes, 0) AS size_bytes,
       CASE WHEN coalesce(b.holder_heartbeat_at, b.created_at) <= {{later}} THEN 1 ELSE 0 END AS silent
FROM (SELECT * FROM batches WHERE {IS_OPEN}) AS b LEFT JOIN files f ON f.id = b.input_file_id
ORDER BY coalesce(f.bytes, 0), b.id LIMIT :most
"""  # noqa: S608

# Those which nobody has begun, and those whose reader sends no heartbeat.
IS_WAITING = f"{IS_OPEN} AND coalesce(holder_heartbeat_at, created_at) <= {{later}}"
