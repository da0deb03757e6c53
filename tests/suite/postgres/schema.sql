CREATE ROLE "App Owner";
CREATE ROLE app_reader LOGIN;
ALTER DATABASE app OWNER TO "App Owner";
COMMENT ON DATABASE app IS 'the application''s own';
ALTER DATABASE app SET work_mem = '8MB';
ALTER DATABASE app SET search_path = "$user", app, public;
ALTER ROLE app_reader IN DATABASE app SET statement_timeout = '30s';
REVOKE CONNECT ON DATABASE app FROM PUBLIC;
GRANT CONNECT ON DATABASE app TO app_reader;

CREATE EXTENSION citext WITH SCHEMA public;
CREATE SCHEMA app AUTHORIZATION "App Owner";
GRANT USAGE ON SCHEMA app TO app_reader;
SET search_path = app, public;

CREATE TYPE mood AS ENUM ('calm', 'tense', 'it''s fine');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN price AS numeric(12, 2) CHECK (VALUE >= 0);

CREATE TABLE account (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner citext NOT NULL UNIQUE,
    balance numeric(12, 2) NOT NULL,
    mood mood NOT NULL DEFAULT 'calm'
);
CREATE SEQUENCE transfer_number START 1000 INCREMENT 5;
CREATE TABLE booking (
    transfer bigint NOT NULL,
    account int NOT NULL REFERENCES account,
    amount numeric(12, 2) NOT NULL,
    booked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX booking_of_account ON booking (account) WHERE amount > 0;
INSERT INTO account (owner, balance) SELECT 'Owner ' || i, 1000 FROM generate_series(1, 100) i;

CREATE FUNCTION transfer(debtor int, creditor int, amount numeric) RETURNS void LANGUAGE plpgsql AS $$
DECLARE number bigint := nextval('app.transfer_number');
BEGIN
    UPDATE app.account SET balance = balance - amount WHERE id = debtor;
    UPDATE app.account SET balance = balance + amount WHERE id = creditor;
    INSERT INTO app.booking VALUES (number, debtor, -amount), (number, creditor, amount);
END $$;

CREATE TABLE event (id bigint NOT NULL, day date NOT NULL, what text) PARTITION BY RANGE (day);
CREATE TABLE event_2025 PARTITION OF event FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE event_2026 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE event_rest PARTITION OF event DEFAULT;
INSERT INTO event SELECT i, date '2025-06-01' + i, 'event ' || i FROM generate_series(1, 900) i;

CREATE TABLE "Odd Names, and ""Values""" (
    "a column" int,
    "A Column" text,
    numbers numeric,
    fixed numeric(10, 3),
    big numeric(40, 20),
    real4 real,
    real8 double precision,
    day date,
    noon time,
    late time with time zone,
    local timestamp,
    instant timestamptz,
    span interval,
    raw bytea,
    key uuid,
    document jsonb,
    text_document json,
    numbers_list int[],
    together pair,
    period daterange,
    address inet,
    cost price,
    money_value money,
    letter "char",
    padded char(5),
    twice int GENERATED ALWAYS AS ("a column" * 2) STORED
);
INSERT INTO "Odd Names, and ""Values""" VALUES
    (1, 'ä€😀', 'NaN', 'NaN', 12345678901234567890.12345678901234567890, 'NaN', '-Infinity', 'infinity', '24:00', '12:00+02',
     '-infinity', 'infinity', '1 year 2 mons -3 days 04:05:06.789', '\x00ff10', '00112233-4455-6677-8899-aabbccddeeff',
     '{"b": 1, "a": [1.50, null]}', '{"b":1, "b":2}', '{{1,2},{3,null}}', ROW (1, 'x,"y'), '[2020-01-01,2021-01-01)',
     '10.0.0.0/8', 9.99, 12.50, 'x', 'ab'),
    (2, '', 1e300, -0.001, -1, -0.0, 1e-300, '0044-03-15 BC', '00:00', '00:00Z', '4713-01-01 BC', '2024-02-29 23:59:59.999999+00',
     '0', '', NULL, 'null', NULL, '{}', NULL, 'empty', '::1', 0, 0, '', ''),
    (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
     NULL, NULL, NULL, NULL, NULL);
CREATE TABLE no_columns ();
INSERT INTO no_columns DEFAULT VALUES;
CREATE UNLOGGED TABLE cache (key text PRIMARY KEY, value text);
INSERT INTO cache VALUES ('a', 'b');

CREATE VIEW rich AS SELECT * FROM account WHERE balance > 500;
CREATE MATERIALIZED VIEW by_day AS SELECT day, count(*) AS n FROM event GROUP BY day;
CREATE UNIQUE INDEX by_day_day ON by_day (day);
CREATE TABLE audit (at timestamptz DEFAULT clock_timestamp(), account int);
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO app.audit (account) VALUES (NEW.id); RETURN NEW; END $$;
CREATE TRIGGER account_noted AFTER UPDATE OF mood ON account FOR EACH ROW EXECUTE FUNCTION noted();
CREATE RULE nothing AS ON DELETE TO rich DO INSTEAD NOTHING;
ALTER TABLE booking ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON booking TO app_reader USING (amount > 0);
GRANT SELECT ON account, rich TO app_reader;
ALTER TABLE account OWNER TO "App Owner";
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO app_reader;
COMMENT ON COLUMN account.balance IS 'in euro; "net"';
CREATE STATISTICS event_days ON id, day FROM event_2025;

SELECT lo_from_bytea(4711, 'a large object');
SELECT lo_from_bytea(4712, decode(repeat('00ff', 5000), 'hex'));
