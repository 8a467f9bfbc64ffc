INSERT INTO sessions (version, created_ns, created_by, updated_ns, updated_by, session_id, kind, device_id, start_ns, end_ns, source,
  status, origin, priority, target_energy_kwh, target_soc, battery_soc_start, battery_soc_end, energy_kwh, energy_grid_kwh, energy_pv_kwh,
  peak_power_w, average_price, total_cost, revenue, savings, currency, coverage, details)
VALUES (1, 1765580400000000000, 'import:optimiser', 1765580400000000000, 'import:optimiser', '20251212_1', 'charging', 'roof',
  1765580400000000000, 1765589400500000000, 'mixed', 'completed', 'imported', 1, 12.0, NULL, 31.0, 90.5, 11.9, 11.4, 0.5,
  5012.0, 0.4321, 4.93, NULL, 1.25, 'PLN', 1.0, '{"file":"daily_plan_20251212.json"}');
INSERT INTO history (entity, entity_id, version, action, at_ns, actor, record)
VALUES ('sessions', 1, 1, 'created', 1765580400000000000, 'import:optimiser', '{"session_id":"20251212_1"}');
INSERT INTO sessions (version, created_ns, created_by, updated_ns, updated_by, session_id, kind, start_ns, source, status, origin,
  currency, details)
VALUES (3, 1765580400000000000, 'analytics', 1765590400000000000, 'analytics', 'roof selling 2025-12-13T18:00:00Z', 'selling',
  1765648800000000000, 'battery', 'active', 'detected', 'PLN', '{}');
INSERT INTO decisions (version, created_ns, created_by, updated_ns, updated_by, decision_key, at_ns, kind, action, price_kwh,
  battery_soc, currency, origin, details, repairs)
VALUES (1, 1765580400000000000, 'import:optimiser', 1765580400000000000, 'import:optimiser', 'charging 2025-11-13T01:31:00Z',
  1762997460000000000, 'charging', 'charge', 0.16939, 33.0, 'PLN', 'imported', '{}',
  '[{"rule":"price-scale","field":"price_kwh","original":5.4541,"repaired":0.16939}]');
INSERT INTO tariffs (version, created_ns, created_by, updated_ns, updated_by, name, direction, valid_from_ns, valid_until_ns, currency,
  definition, note)
VALUES (1, 1765580400000000000, 'user:anna', 1765580400000000000, 'user:anna', 'g12', 'import', 1735686000000000000, NULL, 'PLN',
  '{"builtin":"g12"}', '');
