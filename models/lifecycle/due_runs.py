"""SQL that finds the schedules, runs and events that are due at `:time`.

A worker's check and the tick that it starts share this SQL, so that they always agree.
"""

# A suspended schedule has no next run.
DUE_SCHEDULES = "FROM schedules WHERE next_run_at <= :time"

# The four cases, in this order:
# 1. The batch has ended or was deleted, and the run is not waiting for a retry.
# 2. The batch was accepted, and the run does not record it yet.
# 3. The source must be read, and earlier runs have ended or need not end first. A run that follows another has no
#    batch before.
# 4. The deadline must be checked.
DUE_RUNS = """
FROM runs r LEFT JOIN batches b ON b.id = r.batch_id
WHERE r.next_check_at IS NOT NULL AND (
    (r.batch_id IS NOT NULL AND coalesce(b.status, 'gone') NOT IN ('validating', 'in_progress', 'cancelling')
        AND (r.attempts = 0 OR r.next_check_at <= :time))
    OR (r.state = 'waiting' AND b.status IN ('in_progress', 'cancelling'))
    OR (r.state = 'waiting' AND r.next_check_at <= :time AND (b.status = 'validating' OR r.batch_id IS NULL)
        AND (r.concurrent OR NOT EXISTS (
        SELECT 1 FROM runs e
        WHERE e.schedule = r.schedule AND e.scheduled_at < r.scheduled_at AND e.next_check_at IS NOT NULL)))
    OR (r.state = 'running' AND r.next_check_at <= :time))
"""

RUN_IS_NOT_HELD = "AND (r.held_until IS NULL OR r.held_until < {now})"

# Webhooks follow the database's clock even when schedules follow a simulated one.
DUE_EVENTS = "FROM events WHERE next_delivery_at <= {now}"
DUE_BATCH_EVENTS = "FROM batch_events WHERE next_delivery_at <= {now}"
