"""The SQL of reuse: which batches have results to copy, which of them match, and the copy.

`reusable` is a temporary table with the matches: a job's position, and the batch and position of its result.
"""

from models.lifecycle import slices

SELECT_CANDIDATES = """
SELECT id, succeeded, reused FROM batches
WHERE tenant = :tenant AND output_cache_key = :output_cache_key AND revision = :revision
  AND status NOT IN ('validating', 'deleting')
  AND succeeded > 0
ORDER BY created_at DESC, id DESC LIMIT :limit
"""

SELECT_LAST_VERSION = """
SELECT model_version_id FROM results
WHERE batch_id = :batch_id AND status = 'succeeded' AND (reused_from IS NULL OR :include_reused)
ORDER BY seq DESC LIMIT 1
"""

DROP_REUSABLE = "DROP TABLE IF EXISTS {temporary}.reusable"

CREATE_REUSABLE = """
CREATE TEMPORARY TABLE reusable (position BIGINT PRIMARY KEY, from_batch TEXT NOT NULL, from_position BIGINT NOT NULL)
{on_commit}"""
ON_COMMIT = {"postgresql": "ON COMMIT DROP", "sqlite": ""}

# There are no statistics on a new batch's rows yet, and a nested loop over them would not end.
PLANNER_SETTINGS = ("SET LOCAL enable_nestloop = off", "SET LOCAL work_mem = '64MB'")

# The jobs that need a result: those that were invalid have one, and others may have a match already.
WHERE_UNANSWERED = """
WHERE n.batch_id = :batch_id AND NOT n.invalid
  AND NOT EXISTS (SELECT 1 FROM results x WHERE x.batch_id = :batch_id AND x.position = n.position)
  AND NOT EXISTS (SELECT 1 FROM reusable u WHERE u.position = n.position)
"""

# The guards that read a result are those of now, by definition and model; a worker that was not restarted may have had
# others of the same names.
HAS_GUARDS = {
    "postgresql": "(CAST(:guards AS TEXT) = '[]' OR r.guards @> CAST(:guards AS JSONB))",
    "sqlite": """
NOT EXISTS (SELECT 1 FROM json_each(:guards) e WHERE NOT EXISTS (
    SELECT 1 FROM json_each(r.guards) g
    WHERE json_extract(g.value, '$.guard') = json_extract(e.value, '$.guard')
      AND json_extract(g.value, '$.definition') = json_extract(e.value, '$.definition')
      AND json_extract(g.value, '$.revision') IS json_extract(e.value, '$.revision')))
""",
}

# A redacted job has another input than the one that was submitted, so its result answers no other job.
# `digest` is Python's hash of a text, which may collide, so inputs are compared too. CROSS JOIN keeps SQLite's order.
INDEX_KNOWN_INPUTS = {
    "postgresql": (),
    "sqlite": (
        "DROP TABLE IF EXISTS temp.known",
        "CREATE TEMPORARY TABLE known (digest INTEGER PRIMARY KEY, batch_id TEXT, position INTEGER)",
        f"""
INSERT OR IGNORE INTO known SELECT digest(j.input), j.batch_id, j.position
FROM results r CROSS JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
WHERE r.batch_id IN :group AND r.status = 'succeeded' AND r.model_version_id = :version AND NOT j.redacted
  AND NOT (r.truncated AND :is_timed) AND {HAS_GUARDS["sqlite"]}
""",  # noqa: S608
    ),
}

# PostgreSQL compares hashes without collisions: comparing long documents would decompress them again and again.
INSERT_REUSABLE = {
    "postgresql": f"""
INSERT INTO reusable (position, from_batch, from_position)
SELECT n.position, o.batch_id, o.position
FROM jobs n
JOIN (SELECT DISTINCT ON (digest) digest, batch_id, position FROM (
          SELECT sha256(convert_to(CAST(j.input AS TEXT), 'UTF8')) AS digest, j.batch_id, j.position
          FROM jobs j JOIN results r ON r.batch_id = j.batch_id AND r.position = j.position
          WHERE j.batch_id IN :group AND r.batch_id IN :group
            AND r.status = 'succeeded' AND r.model_version_id = :version AND NOT j.redacted
            AND NOT (r.truncated AND :is_timed) AND {HAS_GUARDS["postgresql"]}) AS old
      ORDER BY digest) AS o
  ON o.digest = sha256(convert_to(CAST(n.input AS TEXT), 'UTF8'))
""",  # noqa: S608
    "sqlite": """
INSERT INTO reusable (position, from_batch, from_position)
SELECT n.position, k.batch_id, k.position
FROM jobs n CROSS JOIN known k ON k.digest = digest(n.input)
CROSS JOIN jobs j ON j.batch_id = k.batch_id AND j.position = k.position AND j.input = n.input
""",
}

# The batches with the most results, for a look-up by id: the first load of a table is usually the largest.
SELECT_LARGEST = """
SELECT id FROM batches
WHERE tenant = :tenant AND output_cache_key = :output_cache_key AND revision = :revision
  AND status NOT IN ('validating', 'deleting')
  AND succeeded > 0 AND id NOT IN :excluded
ORDER BY succeeded DESC, created_at DESC, id DESC LIMIT :limit
"""

# One index look-up for each job and batch. A row whose text did not change has its id and its input in an older batch.
SELECT_SAME_ROWS = """
SELECT {distinct} n.position, j.batch_id, j.position
FROM jobs n
CROSS JOIN jobs j CROSS JOIN results r
{where} AND j.batch_id IN :group AND j.custom_id = n.custom_id AND CAST(j.input AS TEXT) = CAST(n.input AS TEXT)
  AND NOT j.invalid AND NOT j.redacted AND r.batch_id = j.batch_id AND r.position = j.position
  AND r.status = 'succeeded' AND r.model_version_id = :version AND NOT (r.truncated AND :is_timed) AND {has_guards}
"""

INSERT_SAME_ROWS = {
    "postgresql": "INSERT INTO reusable (position, from_batch, from_position)"
    + SELECT_SAME_ROWS.format(
        distinct="DISTINCT ON (n.position)", where=WHERE_UNANSWERED, has_guards=HAS_GUARDS["postgresql"]
    ),
    "sqlite": "INSERT OR IGNORE INTO reusable (position, from_batch, from_position)"
    + SELECT_SAME_ROWS.format(distinct="", where=WHERE_UNANSWERED, has_guards=HAS_GUARDS["sqlite"]),
}

# Without statistics PostgreSQL would read a whole batch for a few ids.
LOOKUP_SETTINGS = (
    "SET LOCAL enable_nestloop = on",
    "SET LOCAL enable_hashjoin = off",
    "SET LOCAL enable_mergejoin = off",
)
RESET_LOOKUP_SETTINGS = ("SET LOCAL enable_hashjoin = on", "SET LOCAL enable_mergejoin = on")

# A copy of a reused result names the batch that computed it. Results deleted since the lookup are not copied.
COPY_RESULTS = """
INSERT INTO results (batch_id, position, seq, status, output, truncated, attempts, model_version_id, reused_from,
                     windows, guards, vector, input_tokens, output_tokens, finish_reason)
SELECT :batch_id, f.position, :last_seq + row_number() OVER (ORDER BY f.position), r.status, r.output, r.truncated, 0,
       r.model_version_id, coalesce(r.reused_from, r.batch_id), r.windows, r.guards, r.vector,
       r.input_tokens, r.output_tokens, r.finish_reason
FROM reusable f CROSS JOIN results r
WHERE r.batch_id = f.from_batch AND r.position = f.from_position AND r.status = 'succeeded'
"""

SELECT_SOURCES = "SELECT from_batch FROM reusable"

SET_REVISION = "UPDATE batches SET revision = :revision WHERE id = :batch_id"

SELECT_UNANSWERED_POSITIONS = f"""
SELECT j.position FROM jobs j
WHERE j.batch_id = :batch_id AND j.position > :after AND {slices.IS_UNANSWERED}
ORDER BY j.position LIMIT :limit
"""  # noqa: S608
