"""SQL that finds the batches whose rows were promised to a server, and are not all read.

Servers and workers start the process that reads them; they share this SQL with it.
"""

SMALL_FILE_BYTES = 64 * 2**20  # never waits for a larger one, because another process reads it
SILENT_SECONDS = 6.0  # without a heartbeat, until a reader elsewhere is considered gone
MAX_POSTPONED_SECONDS = 600.0  # how far ahead the heartbeat of a batch is whose file can't be reached now

IS_OPEN = "read_request IS NOT NULL AND (status = 'validating' OR (status = 'in_progress' AND ingesting))"

IS_POSTPONED = "read_request IS NOT NULL AND holder_id IS NULL AND holder_heartbeat_at IS NOT NULL"

# A batch that is tried again later has a heartbeat in the future. The next one to read is the smallest file of a tenant
# none of whose files is being read, so that no tenant waits for another's files; then each tenant has its turn. Many
# files of another machine's store would fill the answer. A server asks four times a second, so only the index of the
# batches to read is read: `o.tenant` alone would let SQLite read all batches in the order of their tenants.
SELECT_OPEN = f"""
SELECT o.*, sum(o.is_held) OVER (PARTITION BY o.tenant || '') AS held,
       row_number() OVER (PARTITION BY o.tenant || '', o.is_held ORDER BY o.size_bytes, o.id) AS turn
FROM (
    SELECT b.id, b.tenant, b.holder_id, f.location, coalesce(f.bytes, 0) AS size_bytes,
           CASE WHEN coalesce(b.holder_heartbeat_at, b.created_at) <= {{later}} THEN 1 ELSE 0 END AS silent,
           CASE WHEN b.holder_id IS NOT NULL AND coalesce(b.holder_heartbeat_at, b.created_at) > {{later}}
                THEN 1 ELSE 0 END AS is_held
    FROM (SELECT * FROM batches WHERE {IS_OPEN}) AS b LEFT JOIN files f ON f.id = b.input_file_id
    WHERE (b.holder_heartbeat_at IS NULL OR b.holder_heartbeat_at <= {{now}})
      AND (f.location IS NULL OR f.location LIKE :locations)
) AS o
ORDER BY held, turn, size_bytes, id LIMIT :most
"""  # noqa: S608

# Those which nobody has begun, and those whose reader sends no heartbeat.
IS_WAITING = f"{IS_OPEN} AND coalesce(holder_heartbeat_at, created_at) <= {{later}}"
