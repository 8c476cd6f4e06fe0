"""The agenda: what schedules have due at `:moment`, as SQL; who looks and who does it must agree on that."""

EXIT_NOTHING_DUE = 3  # what a tick ends with that a duty started, and that found nothing to do after all

# Whose time has come; a suspended schedule has no next slot.
DUE_SCHEDULES = "FROM schedules WHERE next_at <= :moment"

# In turn: the batch has ended, or is there no more, and the run was not put off; it is accepted, and the run does not
# say so; the source is to be read, once the runs before have ended; it is time to see whether the deadline will be met.
DUE_RUNS = """
FROM runs r LEFT JOIN batches b ON b.id = r.batch_id
WHERE r.look_at IS NOT NULL AND (
    (coalesce(b.status, 'gone') NOT IN ('validating', 'in_progress', 'cancelling')
        AND (r.tries = 0 OR r.look_at <= :moment))
    OR (r.state = 'waiting' AND b.status IN ('in_progress', 'cancelling'))
    OR (r.state = 'waiting' AND r.look_at <= :moment AND b.status = 'validating' AND (r.beside OR NOT EXISTS
        (SELECT 1 FROM runs e WHERE e.schedule = r.schedule AND e.slot < r.slot AND e.look_at IS NOT NULL)))
    OR (r.state = 'running' AND r.look_at <= :moment))
"""

RUN_IS_NOT_HELD = "AND (r.held_until IS NULL OR r.held_until < {now})"

# By the database's clock, whatever a rehearsal's says.
DUE_EVENTS = "FROM events WHERE send_at <= {now}"
