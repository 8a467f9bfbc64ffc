-- Ledger, version 1. Never edited after its release: a change is a new file.
-- Times: nanoseconds since 1970-01-01T00:00:00Z. Truth values: 0 and 1. JSON: text. Every record has the first six columns.

CREATE TABLE history (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  entity TEXT NOT NULL,
  entity_id INTEGER NOT NULL,
  version INTEGER NOT NULL CHECK (version >= 1),
  action TEXT NOT NULL CHECK (action IN ('created', 'changed', 'removed')),
  at_ns INTEGER NOT NULL,
  actor TEXT NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
  record TEXT NOT NULL CHECK (json_valid(record)),
  UNIQUE (entity, entity_id, version)
) STRICT;

CREATE TABLE devices (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  version INTEGER NOT NULL CHECK (version >= 1),
  created_ns INTEGER NOT NULL, created_by TEXT NOT NULL, updated_ns INTEGER NOT NULL, updated_by TEXT NOT NULL,
  device_id TEXT NOT NULL UNIQUE CHECK (device_id <> ''),
  kind TEXT NOT NULL CHECK (kind IN ('inverter', 'battery', 'meter', 'charger', 'heat_pump', 'sensor', 'other')),
  manufacturer TEXT, model TEXT, serial_number TEXT, location TEXT,
  rated_power_w REAL CHECK (rated_power_w > 0),
  battery_capacity_kwh REAL CHECK (battery_capacity_kwh > 0),
  commissioned_ns INTEGER, retired_ns INTEGER,
  settings TEXT NOT NULL CHECK (json_valid(settings)),
  note TEXT NOT NULL,
  CHECK (retired_ns > commissioned_ns)
) STRICT;

CREATE TABLE sessions (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  version INTEGER NOT NULL CHECK (version >= 1),
  created_ns INTEGER NOT NULL, created_by TEXT NOT NULL, updated_ns INTEGER NOT NULL, updated_by TEXT NOT NULL,
  session_id TEXT NOT NULL UNIQUE CHECK (session_id <> ''),
  kind TEXT NOT NULL CHECK (kind IN ('charging', 'selling')),
  device_id TEXT,
  start_ns INTEGER NOT NULL,
  end_ns INTEGER CHECK (end_ns >= start_ns),
  source TEXT NOT NULL CHECK (source IN ('grid', 'pv', 'mixed', 'battery', 'unknown')),
  status TEXT NOT NULL CHECK (status IN ('planned', 'active', 'completed', 'cancelled', 'failed')),
  origin TEXT NOT NULL CHECK (origin IN ('detected', 'reported', 'imported')),
  priority INTEGER,
  target_energy_kwh REAL CHECK (target_energy_kwh >= 0),
  target_soc REAL CHECK (target_soc BETWEEN 0 AND 100),
  battery_soc_start REAL CHECK (battery_soc_start BETWEEN 0 AND 100),
  battery_soc_end REAL CHECK (battery_soc_end BETWEEN 0 AND 100),
  energy_kwh REAL CHECK (energy_kwh >= 0),
  energy_grid_kwh REAL CHECK (energy_grid_kwh >= 0),
  energy_pv_kwh REAL CHECK (energy_pv_kwh >= 0),
  peak_power_w REAL CHECK (peak_power_w >= 0),
  average_price REAL, total_cost REAL, revenue REAL, savings REAL,
  currency TEXT NOT NULL CHECK (length(currency) = 3),
  coverage REAL CHECK (coverage BETWEEN 0 AND 1),
  details TEXT NOT NULL CHECK (json_valid(details)),
  CHECK (status <> 'completed' OR end_ns IS NOT NULL)
) STRICT;
CREATE INDEX sessions_start ON sessions (start_ns, id);
CREATE INDEX sessions_device ON sessions (device_id, start_ns);

CREATE TABLE decisions (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  version INTEGER NOT NULL CHECK (version >= 1),
  created_ns INTEGER NOT NULL, created_by TEXT NOT NULL, updated_ns INTEGER NOT NULL, updated_by TEXT NOT NULL,
  decision_key TEXT NOT NULL UNIQUE CHECK (decision_key <> ''),
  at_ns INTEGER NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('charging', 'selling', 'other')),
  device_id TEXT,
  action TEXT NOT NULL CHECK (action <> ''),
  source TEXT, priority TEXT, reason TEXT,
  confidence REAL CHECK (confidence BETWEEN 0 AND 1),
  duration_h REAL CHECK (duration_h >= 0),
  energy_kwh REAL, estimated_cost REAL, estimated_savings REAL, expected_revenue REAL,
  price_kwh REAL, cheapest_price_kwh REAL, cheapest_hour INTEGER CHECK (cheapest_hour BETWEEN 0 AND 24),
  currency TEXT NOT NULL CHECK (length(currency) = 3),
  battery_soc REAL CHECK (battery_soc BETWEEN 0 AND 100),
  pv_power_w REAL, consumption_w REAL,
  tariff_zone TEXT,
  origin TEXT NOT NULL CHECK (origin IN ('reported', 'imported')),
  details TEXT NOT NULL CHECK (json_valid(details)),
  repairs TEXT NOT NULL CHECK (json_valid(repairs))
) STRICT;
CREATE INDEX decisions_at ON decisions (at_ns, id);

CREATE TABLE configurations (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  version INTEGER NOT NULL CHECK (version >= 1),
  created_ns INTEGER NOT NULL, created_by TEXT NOT NULL, updated_ns INTEGER NOT NULL, updated_by TEXT NOT NULL,
  name TEXT NOT NULL CHECK (name <> ''),
  revision INTEGER NOT NULL CHECK (revision >= 1),
  label TEXT,
  data TEXT NOT NULL CHECK (json_valid(data)),
  active INTEGER NOT NULL CHECK (active IN (0, 1)),
  note TEXT NOT NULL,
  UNIQUE (name, revision)
) STRICT;
CREATE UNIQUE INDEX configurations_active ON configurations (name) WHERE active = 1;

CREATE TABLE preferences (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  version INTEGER NOT NULL CHECK (version >= 1),
  created_ns INTEGER NOT NULL, created_by TEXT NOT NULL, updated_ns INTEGER NOT NULL, updated_by TEXT NOT NULL,
  owner TEXT NOT NULL,
  name TEXT NOT NULL CHECK (name <> ''),
  value TEXT NOT NULL CHECK (json_valid(value)),
  UNIQUE (owner, name)
) STRICT;

CREATE TABLE reports (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  version INTEGER NOT NULL CHECK (version >= 1),
  created_ns INTEGER NOT NULL, created_by TEXT NOT NULL, updated_ns INTEGER NOT NULL, updated_by TEXT NOT NULL,
  report_type TEXT NOT NULL CHECK (report_type <> ''),
  device_id TEXT NOT NULL,
  start_ns INTEGER NOT NULL,
  end_ns INTEGER NOT NULL CHECK (end_ns > start_ns),
  time_zone TEXT NOT NULL,
  data TEXT NOT NULL CHECK (json_valid(data)),
  inputs TEXT,
  origin TEXT NOT NULL CHECK (origin IN ('computed', 'imported')),
  UNIQUE (report_type, device_id, start_ns, origin)
) STRICT;
CREATE INDEX reports_start ON reports (start_ns, id);

CREATE TABLE tariffs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  version INTEGER NOT NULL CHECK (version >= 1),
  created_ns INTEGER NOT NULL, created_by TEXT NOT NULL, updated_ns INTEGER NOT NULL, updated_by TEXT NOT NULL,
  name TEXT NOT NULL CHECK (name <> ''),
  direction TEXT NOT NULL CHECK (direction IN ('import', 'export')),
  valid_from_ns INTEGER NOT NULL,
  valid_until_ns INTEGER CHECK (valid_until_ns > valid_from_ns),
  currency TEXT NOT NULL CHECK (length(currency) = 3),
  definition TEXT NOT NULL CHECK (json_valid(definition)),
  note TEXT NOT NULL
) STRICT;
CREATE INDEX tariffs_from ON tariffs (direction, valid_from_ns);
-- At any instant one tariff holds in each direction.
CREATE TRIGGER tariffs_apart_new BEFORE INSERT ON tariffs WHEN EXISTS (
  SELECT 1 FROM tariffs o WHERE o.direction = NEW.direction
    AND (NEW.valid_until_ns IS NULL OR o.valid_from_ns < NEW.valid_until_ns)
    AND (o.valid_until_ns IS NULL OR NEW.valid_from_ns < o.valid_until_ns)
) BEGIN SELECT RAISE(ABORT, 'tariffs_apart'); END;
CREATE TRIGGER tariffs_apart_changed BEFORE UPDATE ON tariffs WHEN EXISTS (
  SELECT 1 FROM tariffs o WHERE o.id <> NEW.id AND o.direction = NEW.direction
    AND (NEW.valid_until_ns IS NULL OR o.valid_from_ns < NEW.valid_until_ns)
    AND (o.valid_until_ns IS NULL OR NEW.valid_from_ns < o.valid_until_ns)
) BEGIN SELECT RAISE(ABORT, 'tariffs_apart'); END;

CREATE TABLE annotations (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  version INTEGER NOT NULL CHECK (version >= 1),
  created_ns INTEGER NOT NULL, created_by TEXT NOT NULL, updated_ns INTEGER NOT NULL, updated_by TEXT NOT NULL,
  start_ns INTEGER NOT NULL,
  end_ns INTEGER CHECK (end_ns >= start_ns),
  title TEXT NOT NULL CHECK (title <> ''),
  text TEXT NOT NULL,
  device_id TEXT,
  tags TEXT NOT NULL CHECK (json_valid(tags))
) STRICT;
CREATE INDEX annotations_start ON annotations (start_ns, id);

CREATE TABLE alert_rules (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  version INTEGER NOT NULL CHECK (version >= 1),
  created_ns INTEGER NOT NULL, created_by TEXT NOT NULL, updated_ns INTEGER NOT NULL, updated_by TEXT NOT NULL,
  name TEXT NOT NULL UNIQUE CHECK (name <> ''),
  severity TEXT NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
  enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
  definition TEXT NOT NULL CHECK (json_valid(definition)),
  channels TEXT NOT NULL CHECK (json_valid(channels)),
  note TEXT NOT NULL
) STRICT;

CREATE TABLE alert_states (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  version INTEGER NOT NULL CHECK (version >= 1),
  created_ns INTEGER NOT NULL, created_by TEXT NOT NULL, updated_ns INTEGER NOT NULL, updated_by TEXT NOT NULL,
  rule_id INTEGER NOT NULL UNIQUE REFERENCES alert_rules (id) ON DELETE CASCADE,
  state TEXT NOT NULL CHECK (json_valid(state)),
  evaluated_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE alert_events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  version INTEGER NOT NULL CHECK (version >= 1),
  created_ns INTEGER NOT NULL, created_by TEXT NOT NULL, updated_ns INTEGER NOT NULL, updated_by TEXT NOT NULL,
  event_key TEXT NOT NULL UNIQUE CHECK (event_key <> ''),
  rule_id INTEGER REFERENCES alert_rules (id) ON DELETE SET NULL,
  rule_name TEXT NOT NULL,
  severity TEXT NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
  state TEXT NOT NULL CHECK (state IN ('pending', 'firing', 'resolved')),
  at_ns INTEGER NOT NULL,
  value REAL,
  message TEXT NOT NULL,
  silenced INTEGER NOT NULL CHECK (silenced IN (0, 1)),
  details TEXT NOT NULL CHECK (json_valid(details))
) STRICT;
CREATE INDEX alert_events_at ON alert_events (at_ns, id);
CREATE INDEX alert_events_rule ON alert_events (rule_id);

CREATE TABLE alert_deliveries (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  version INTEGER NOT NULL CHECK (version >= 1),
  created_ns INTEGER NOT NULL, created_by TEXT NOT NULL, updated_ns INTEGER NOT NULL, updated_by TEXT NOT NULL,
  event_id INTEGER NOT NULL REFERENCES alert_events (id) ON DELETE CASCADE,
  channel TEXT NOT NULL CHECK (channel <> ''),
  status TEXT NOT NULL CHECK (status IN ('pending', 'delivered', 'dead')),
  attempts INTEGER NOT NULL CHECK (attempts >= 0),
  next_attempt_ns INTEGER NOT NULL,
  delivered_ns INTEGER,
  last_error TEXT,
  UNIQUE (event_id, channel),
  CHECK ((status = 'delivered') = (delivered_ns IS NOT NULL))
) STRICT;
CREATE INDEX alert_deliveries_due ON alert_deliveries (next_attempt_ns, id) WHERE status = 'pending';

CREATE TABLE alert_silences (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  version INTEGER NOT NULL CHECK (version >= 1),
  created_ns INTEGER NOT NULL, created_by TEXT NOT NULL, updated_ns INTEGER NOT NULL, updated_by TEXT NOT NULL,
  rule_name TEXT,
  start_ns INTEGER NOT NULL,
  end_ns INTEGER NOT NULL CHECK (end_ns > start_ns),
  reason TEXT NOT NULL
) STRICT;

CREATE TABLE import_runs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  version INTEGER NOT NULL CHECK (version >= 1),
  created_ns INTEGER NOT NULL, created_by TEXT NOT NULL, updated_ns INTEGER NOT NULL, updated_by TEXT NOT NULL,
  run_key TEXT NOT NULL UNIQUE CHECK (run_key <> ''),
  tool TEXT NOT NULL CHECK (tool <> ''),
  source TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('running', 'completed', 'failed')),
  started_ns INTEGER NOT NULL,
  finished_ns INTEGER CHECK (finished_ns >= started_ns),
  progress TEXT NOT NULL CHECK (json_valid(progress)),
  report TEXT NOT NULL CHECK (json_valid(report)),
  CHECK ((status = 'running') = (finished_ns IS NULL))
) STRICT;

CREATE TABLE users (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  version INTEGER NOT NULL CHECK (version >= 1),
  created_ns INTEGER NOT NULL, created_by TEXT NOT NULL, updated_ns INTEGER NOT NULL, updated_by TEXT NOT NULL,
  name TEXT NOT NULL UNIQUE CHECK (name <> ''),
  role TEXT NOT NULL CHECK (role IN ('admin', 'writer', 'reader')),
  password_hash TEXT,
  disabled INTEGER NOT NULL CHECK (disabled IN (0, 1))
) STRICT;

CREATE TABLE tokens (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  version INTEGER NOT NULL CHECK (version >= 1),
  created_ns INTEGER NOT NULL, created_by TEXT NOT NULL, updated_ns INTEGER NOT NULL, updated_by TEXT NOT NULL,
  name TEXT NOT NULL UNIQUE CHECK (name <> ''),
  user_id INTEGER NOT NULL REFERENCES users (id),
  token_hash TEXT NOT NULL UNIQUE CHECK (length(token_hash) = 64),
  access TEXT NOT NULL CHECK (json_valid(access)),
  expires_ns INTEGER,
  revoked_ns INTEGER
) STRICT;
CREATE INDEX tokens_user ON tokens (user_id);
