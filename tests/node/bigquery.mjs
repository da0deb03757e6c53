// BigQuery through @google-cloud/bigquery; files go through Cloud Storage's client.

import assert from 'node:assert/strict';
import {mkdtemp, rm, writeFile} from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';

import {check, refused} from './harness.mjs';

const DAY_MS = 86_400_000;
const SCHEMA = [
  {name: 'id', type: 'INTEGER', mode: 'REQUIRED'},
  {name: 's', type: 'STRING', description: 'a string'},
  {name: 'f', type: 'FLOAT'},
  {name: 'b', type: 'BOOLEAN'},
  {name: 'by', type: 'BYTES'},
  {name: 'n', type: 'NUMERIC'},
  {name: 'bn', type: 'BIGNUMERIC'},
  {name: 'd', type: 'DATE'},
  {name: 'dt', type: 'DATETIME'},
  {name: 't', type: 'TIME'},
  {name: 'ts', type: 'TIMESTAMP'},
  {name: 'j', type: 'JSON'},
  {name: 'arr', type: 'STRING', mode: 'REPEATED'},
  {name: 'r', type: 'RECORD', fields: [{name: 'x', type: 'INTEGER'}, {name: 'y', type: 'STRING', mode: 'REPEATED'}]},
  {name: 'rr', type: 'RECORD', mode: 'REPEATED', fields: [{name: 'k', type: 'STRING'}, {name: 'v', type: 'NUMERIC'}]},
];
const ROW = {
  id: 1, s: 'é\n"q"', f: 1.5, b: true, by: 'AAH/', n: '12345678901234567890.123456789',
  bn: '0.00000000000000000000000000000000000001', d: '2024-02-29', dt: '2024-02-29T01:02:03.000004', t: '23:59:59.999999',
  ts: '2024-02-29T01:02:03.000004Z', j: '{"a":[1,null]}', arr: ['a', ''], r: {x: '9007199254740993', y: ['p']},
  rr: [{k: 'k1', v: '1.5'}, {k: null, v: null}],
};

/** A row as the client gave it, in plain values. */
function plain(row) {
  return {
    ...row, by: row.by.toString('base64'), n: row.n.toFixed(), bn: row.bn.toFixed(), d: row.d.value, dt: row.dt.value,
    t: row.t.value, ts: row.ts.value.replace(/000Z$/, 'Z'), j: typeof row.j === 'string' ? JSON.stringify(JSON.parse(row.j)) : JSON.stringify(row.j),
    rr: row.rr.map(one => ({k: one.k, v: one.v === null ? null : one.v.toFixed()})),
  };
}
const EXPECTED = {...ROW, r: {x: 9007199254740993n, y: ['p']}};
// Integers beyond 2^53 come as BigInt when one asks for a cast.
const WRAP = {wrapIntegers: {integerTypeCastFunction: text => (Number.isSafeInteger(Number(text)) ? Number(text) : BigInt(text))}};

export async function bigquery(client, buckets, run) {
  const name = `node_${run}`;
  const dataset = client.dataset(name);
  const table = id => dataset.table(id);
  const query = async (sql, options = {}) => (await client.query({query: sql, ...options}))[0];
  const count = async id => (await query(`SELECT COUNT(*) n FROM \`${name}.${id}\``))[0].n;
  const done = async ([job]) => {
    const [metadata] = await job.promise();
    assert.equal(metadata.status.errorResult, undefined);
    return metadata;
  };
  /** A job that was taken and did not succeed: the client throws its errors, or hands its metadata out. */
  const failed = async (work, reason) => {
    let said;
    try {
      said = [(await work())[0].status.errorResult];
    } catch (error) {
      said = error.errors ?? [error];
    }
    assert.equal(said?.[0]?.reason, reason, JSON.stringify(said));
    return reason;
  };
  const copy = (from, to, options) => table(from).createCopyJob(table(to), options).then(done);
  const bucket = buckets.bucket(`node-bq-${run}`);
  await bucket.create({location: 'EU'});
  const folder = await mkdtemp(join(tmpdir(), 'node-check-'));
  const file = async (path, text) => {
    await writeFile(join(folder, path), text);
    return join(folder, path);
  };

  await check('bigquery: create a dataset', async () => {
    await client.createDataset(name, {location: 'EU', labels: {env: 'x'}, description: 'hé', defaultTableExpirationMs: `${9 * DAY_MS}`});
    const [metadata] = await dataset.getMetadata();
    assert.deepEqual([metadata.location, metadata.labels, metadata.description], ['EU', {env: 'x'}, 'hé']);
    assert.ok(metadata.etag && metadata.kind === 'bigquery#dataset');
  });
  await check('bigquery: a dataset exists, another does not', async () =>
    assert.deepEqual([(await dataset.exists())[0], (await client.dataset('none').exists())[0]], [true, false]));
  await check('bigquery: the same dataset again is 409', () => refused(() => client.createDataset(name), 409, 'duplicate'));
  await check('bigquery: a dataset that is not is 404', () => refused(() => client.dataset('none').getMetadata(), 404, 'notFound'));
  await check('bigquery: datasets are listed', async () => assert.ok((await client.getDatasets())[0].some(one => one.id === name)));
  await check('bigquery: datasets are listed by label', async () => {
    assert.deepEqual((await client.getDatasets({filter: 'labels.env:x'}))[0].map(one => one.id).filter(id => id === name), [name]);
    assert.equal((await client.getDatasets({filter: 'labels.env:none'}))[0].length, 0);
  });
  await check('bigquery: a dataset is changed', async () => {
    const [metadata] = await dataset.setMetadata({description: 'changed', labels: {env: null, other: 'y'}, defaultTableExpirationMs: null});
    assert.deepEqual([metadata.description, metadata.labels, metadata.defaultTableExpirationMs], ['changed', {other: 'y'}, undefined]);
  });
  await check('bigquery: a stale etag is 412', () => refused(() => dataset.setMetadata({description: 'z', etag: 'bogus'}), 412));

  await check('bigquery: create a table with every type', async () => {
    await dataset.createTable('all', {
      schema: SCHEMA, timePartitioning: {type: 'DAY', field: 'd'}, clustering: {fields: ['s']}, description: 'T', labels: {q: '1'},
    });
    const [metadata] = await table('all').getMetadata();
    assert.deepEqual(metadata.schema.fields.map(field => [field.name, field.type]), SCHEMA.map(field => [field.name, field.type]));
    assert.deepEqual([metadata.timePartitioning.field, metadata.clustering.fields, metadata.schema.fields[1].description], ['d', ['s'], 'a string']);
  });
  await check('bigquery: insert a row of every type', async () => table('all').insert([ROW]));
  await check('bigquery: bad rows are told by row', async () => {
    try {
      await table('all').insert([{id: 'x'}, {id: 2, zz: 1}], {raw: false});
    } catch (error) {
      assert.equal(error.name, 'PartialFailureError');
      return error.errors.map(one => one.errors[0].reason).join();
    }
    assert.fail('bad rows were taken');
  });
  await check('bigquery: raw rows with insert ids', async () => {
    await dataset.createTable('raw', {schema: 'id:integer,s'});
    for (const insertId of ['a', 'a', 'b']) await table('raw').insert([{insertId, json: {id: 1}}], {raw: true});
    assert.equal(await count('raw'), 2);
  });
  await check('bigquery: rows are read back value for value', async () =>
    assert.deepEqual((await table('all').getRows(WRAP))[0].map(plain), [EXPECTED]));
  await check('bigquery: a query gives the same values', async () => assert.deepEqual((await query(`SELECT * FROM \`${name}.all\``, WRAP)).map(plain), [EXPECTED]));
  await check('bigquery: some fields only', async () =>
    assert.deepEqual(Object.keys((await table('all').getRows({selectedFields: 'id,s'}))[0][0]).sort(), ['id', 's']));
  await check('bigquery: the table counts its rows', async () => assert.equal((await table('all').getMetadata())[0].numRows, '1'));

  await check('bigquery: load NDJSON from a file', async () => {
    const lines = Array.from({length: 1000}, (_, id) => JSON.stringify({id, s: `s${id}`})).join('\n');
    const [metadata] = await table('load').load(await file('rows.json', lines), {
      sourceFormat: 'NEWLINE_DELIMITED_JSON', writeDisposition: 'WRITE_TRUNCATE',
      schema: {fields: [{name: 'id', type: 'INT64'}, {name: 's', type: 'STRING'}]},
    });
    assert.equal(metadata.status.errorResult, undefined);
    assert.deepEqual([metadata.statistics.load.outputRows, await count('load')], ['1000', 1000]);
  });
  await check('bigquery: load CSV with a header and detection', async () => {
    await table('csv').load(await file('rows.csv', 'id,day,x\n1,2024-01-01,1.5\n2,2024-01-02,\n'), {autodetect: true, skipLeadingRows: 1});
    assert.deepEqual((await table('csv').getMetadata())[0].schema.fields.map(field => field.type), ['INTEGER', 'DATE', 'FLOAT']);
  });
  await check('bigquery: load a stream', async () => {
    const stream = table('stream').createWriteStream({sourceFormat: 'CSV', schema: {fields: [{name: 'id', type: 'INTEGER'}]}});
    const job = await new Promise((resolve, reject) => {
      stream.on('job', resolve).on('error', reject);
      stream.end('1\n2\n3\n');
    });
    await done([job]);
    assert.equal(await count('stream'), 3);
  });
  await check('bigquery: load of a bad line fails', async () => {
    const path = await file('bad.json', '{"id":"abc"}\n');
    const options = {sourceFormat: 'NEWLINE_DELIMITED_JSON', schema: {fields: [{name: 'id', type: 'INT64'}]}};
    return failed(() => table('bad').load(path, options), 'invalid');
  });
  for (const [format, ending, options] of [
    ['NEWLINE_DELIMITED_JSON', 'json', {compression: 'GZIP'}],
    ['AVRO', 'avro', {compression: 'SNAPPY', useAvroLogicalTypes: true}],
    ['PARQUET', 'parquet', {compression: 'ZSTD'}],
  ]) {
    await check(`bigquery: extract ${format} and load it`, async () => {
      const target = bucket.file(`${ending}/part-*.${ending}`);
      // The client's method knows JSON, CSV and AVRO by its own names: the job says it in BigQuery's.
      const [extract] = await client.createJob({configuration: {extract: {
        sourceTable: table('all').metadata.tableReference ?? {projectId: client.projectId, datasetId: name, tableId: 'all'},
        destinationUris: [`gs://${bucket.name}/${target.name}`], destinationFormat: format, ...options}}});
      const metadata = await done([extract]);
      assert.deepEqual(metadata.statistics.extract.destinationUriFileCounts, ['1']);
      const back = `back_${ending}`;
      const [load] = await client.createJob({configuration: {load: {
        sourceUris: [`gs://${bucket.name}/${ending}/*`], sourceFormat: format, schema: {fields: SCHEMA}, useAvroLogicalTypes: true,
        decimalTargetTypes: ['NUMERIC', 'BIGNUMERIC'],
        destinationTable: {projectId: client.projectId, datasetId: name, tableId: back}}}});
      await done([load]);
      assert.deepEqual((await table(back).getRows(WRAP))[0].map(plain), [EXPECTED]);
    });
  }
  await check('bigquery: extract with the table\'s own method', async () => {
    const [metadata] = await table('load').extract(bucket.file('own.csv'), {format: 'csv', gzip: true});
    assert.equal(metadata.status.state, 'DONE');
    assert.equal((await bucket.file('own.csv').exists())[0], true);
  });
  await check('bigquery: load from Cloud Storage with the table\'s own method', async () => {
    await bucket.file('in.json').save('{"id":1}\n{"id":2}\n', {resumable: false});
    await table('gcs').load(bucket.file('in.json'), {sourceFormat: 'NEWLINE_DELIMITED_JSON', autodetect: true});
    assert.equal(await count('gcs'), 2);
  });
  await check('bigquery: load of a missing object fails', () =>
    failed(() => table('none').load(bucket.file('no/such'), {sourceFormat: 'AVRO'}), 'notFound'));

  await check('bigquery: copy a table', async () => {
    await table('all').copy(table('copy'));
    assert.equal((await table('copy').getMetadata())[0].numRows, '1');
  });
  await check('bigquery: copy onto rows with WRITE_EMPTY fails', () =>
    failed(() => copy('all', 'copy', {writeDisposition: 'WRITE_EMPTY'}), 'duplicate'));
  await check('bigquery: snapshot with an end', async () => {
    await copy('all', 'snapshot', {operationType: 'SNAPSHOT', destinationExpirationTime: '2030-01-01T00:00:00Z'});
    const [metadata] = await table('snapshot').getMetadata();
    assert.deepEqual([metadata.type, metadata.expirationTime, metadata.snapshotDefinition.baseTableReference.tableId], ['SNAPSHOT', `${Date.UTC(2030, 0, 1)}`, 'all']);
  });
  await check('bigquery: a snapshot is not changed', () => refused(() => query(`DELETE FROM \`${name}.snapshot\` WHERE TRUE`), 400));
  await check('bigquery: restore a snapshot', async () => {
    await copy('snapshot', 'restored', {operationType: 'RESTORE'});
    assert.deepEqual([(await table('restored').getMetadata())[0].type, await count('restored')], ['TABLE', 1]);
  });
  await check('bigquery: clone', async () => {
    await copy('all', 'clone', {operationType: 'CLONE'});
    assert.equal(await count('clone'), 1);
  });
  await check('bigquery: time travel by decorator', async () => {
    const before = Date.now();
    await new Promise(later => setTimeout(later, 50));
    await query(`DELETE FROM \`${name}.load\` WHERE id >= 10`);
    await copy(`load@${before}`, 'past');
    assert.deepEqual([await count('past'), await count('load')], [1000, 10]);
  });
  await check('bigquery: FOR SYSTEM_TIME AS OF', async () =>
    assert.equal((await query(`SELECT COUNT(*) n FROM \`${name}.csv\` FOR SYSTEM_TIME AS OF CURRENT_TIMESTAMP()`))[0].n, 2));

  await check('bigquery: pages of a query', async () => {
    const [job] = await client.createQueryJob({query: 'SELECT x FROM UNNEST(GENERATE_ARRAY(1, 2500)) x ORDER BY x'});
    const sizes = [];
    let next = {maxResults: 1000, autoPaginate: false};
    while (next) {
      const [rows, following] = await job.getQueryResults(next);
      sizes.push(rows.length);
      next = following;
    }
    assert.deepEqual(sizes, [1000, 1000, 500]);
  });
  await check('bigquery: rows as a stream', async () => {
    let seen = 0;
    for await (const _ of table('past').createReadStream()) seen += 1;
    assert.equal(seen, 1000);
  });
  await check('bigquery: rows from the middle', async () =>
    assert.equal((await table('past').getRows({startIndex: '5', maxResults: 7, autoPaginate: false}))[0].length, 7));
  await check('bigquery: named parameters', async () => {
    const params = {a: 5, b: ['x', 'y'], d: client.date('2024-02-29'), s: {k: 'v'}};
    assert.deepEqual((await query('SELECT @a + 1 a, ARRAY_LENGTH(@b) b, @d d, @s.k s', {params})).map(row => [row.a, row.b, row.d.value, row.s]), [[6, 2, '2024-02-29', 'v']]);
  });
  await check('bigquery: positional parameters', async () => assert.deepEqual(await query('SELECT ? + ? AS n', {params: [1, 2]}), [{n: 3}]));
  await check('bigquery: a null parameter with its type', async () =>
    assert.deepEqual(await query('SELECT @x IS NULL AS n', {params: {x: null}, types: {x: 'STRING'}}), [{n: true}]));
  await check('bigquery: dry run', async () => {
    const [job] = await client.createQueryJob({query: `SELECT * FROM \`${name}.past\``, dryRun: true});
    assert.ok(Number(job.metadata.statistics.totalBytesProcessed) > 0);
    return `${job.metadata.statistics.totalBytesProcessed} bytes`;
  });
  await check('bigquery: query into a table', async () => {
    await done(await client.createQueryJob({query: 'SELECT 1 a UNION ALL SELECT 2', destination: table('target'), writeDisposition: 'WRITE_TRUNCATE'}));
    assert.equal(await count('target'), 2);
  });
  await check('bigquery: DDL, DML, MERGE', async () => {
    await query(`CREATE TABLE \`${name}.ddl\` (id INT64 NOT NULL, s STRING DEFAULT 'x') CLUSTER BY id`);
    await query(`INSERT INTO \`${name}.ddl\` (id) VALUES (1), (2)`);
    await query(`MERGE \`${name}.ddl\` t USING (SELECT 2 id UNION ALL SELECT 3) s ON t.id = s.id
      WHEN MATCHED THEN UPDATE SET s = 'm' WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)`);
    assert.deepEqual(await query(`SELECT id, s FROM \`${name}.ddl\` ORDER BY id`), [{id: 1, s: 'x'}, {id: 2, s: 'm'}, {id: 3, s: 'x'}]);
  });
  await check('bigquery: EXPORT DATA', async () => {
    await query(`EXPORT DATA OPTIONS (uri='gs://${bucket.name}/export/*.parquet', format='PARQUET', overwrite=true) AS SELECT * FROM \`${name}.past\``);
    assert.ok((await bucket.getFiles({prefix: 'export/'}))[0].length > 0);
  });
  await check('bigquery: fingerprint of a table', async () => {
    const [row] = await query(`SELECT COUNT(*) n, BIT_XOR(FARM_FINGERPRINT(TO_JSON_STRING(t))) x FROM \`${name}.past\` t`, WRAP);
    assert.equal(row.n, 1000);
    return row.x;
  });
  await check('bigquery: windows, QUALIFY, EXCEPT', async () =>
    assert.deepEqual(await query(`SELECT * EXCEPT (s) FROM \`${name}.ddl\` QUALIFY ROW_NUMBER() OVER (ORDER BY id DESC) = 1`), [{id: 3}]));
  await check('bigquery: bad SQL is 400', () => refused(() => query('SELEC 1'), 400, 'invalidQuery'));
  await check('bigquery: a query of nothing is 404', () => refused(() => query(`SELECT * FROM \`${name}.none\``), 404, 'notFound'));

  for (const view of ['TABLES', 'COLUMNS', 'PARTITIONS', 'TABLE_OPTIONS', 'VIEWS', 'TABLE_SNAPSHOTS']) {
    await check(`bigquery: INFORMATION_SCHEMA.${view}`, async () => `${(await query(`SELECT * FROM \`${name}\`.INFORMATION_SCHEMA.${view} LIMIT 100`)).length} rows`);
  }
  await check('bigquery: __TABLES__', async () => assert.ok((await query(`SELECT table_id, row_count FROM \`${name}.__TABLES__\``)).length > 5));
  await check('bigquery: a view', async () => {
    await dataset.createTable('view', {view: {query: `SELECT id FROM \`${name}.past\``, useLegacySql: false}});
    assert.deepEqual([(await table('view').getMetadata())[0].type, await count('view')], ['VIEW', 1000]);
  });
  await check('bigquery: a materialized view', async () => {
    await dataset.createTable('mv', {materializedView: {query: `SELECT s, COUNT(*) n FROM \`${name}.past\` GROUP BY s`}});
    assert.equal((await table('mv').getMetadata())[0].type, 'MATERIALIZED_VIEW');
  });
  await check('bigquery: a routine', async () => {
    const arguments_ = [{name: 'x', dataType: {typeKind: 'INT64'}}];
    await dataset.createRoutine('triple', {arguments: arguments_, definitionBody: 'x * 3', routineType: 'SCALAR_FUNCTION', language: 'SQL'});
    assert.deepEqual(await query(`SELECT \`${name}\`.triple(4) AS n`), [{n: 12}]);
    assert.deepEqual((await dataset.getRoutines())[0].map(one => one.id), ['triple']);
    await dataset.routine('triple').delete();
  });
  await check('bigquery: models are listed (none)', async () => assert.deepEqual((await dataset.getModels())[0], []));
  await check('bigquery: tables in pages', async () => {
    const [first, next] = await dataset.getTables({maxResults: 3, autoPaginate: false});
    assert.equal(first.length, 3);
    assert.ok(next.pageToken);
    assert.ok((await dataset.getTables())[0].length > 10);
  });
  await check('bigquery: a column is added', async () => {
    const [metadata] = await table('copy').getMetadata();
    metadata.schema.fields.push({name: 'added', type: 'STRING'});
    const [changed] = await table('copy').setMetadata({schema: metadata.schema});
    assert.equal(changed.schema.fields.at(-1).name, 'added');
  });
  await check('bigquery: expiry and labels of a table', async () => {
    const end = Date.UTC(2031, 0, 1);
    const [changed] = await table('copy').setMetadata({expirationTime: `${end}`, labels: {a: 'b'}});
    assert.deepEqual([changed.expirationTime, changed.labels], [`${end}`, {a: 'b'}]);
  });
  await check('bigquery: a job is found again, ids are used once', async () => {
    const jobId = `node-${run}`;
    await done(await client.createQueryJob({query: 'SELECT 1', jobId}));
    assert.equal((await client.job(jobId).getMetadata())[0].status.state, 'DONE');
    return refused(() => client.createQueryJob({query: 'SELECT 2', jobId}), 409, 'duplicate');
  });
  await check('bigquery: jobs are listed', async () => assert.equal((await client.getJobs({maxResults: 5, autoPaginate: false}))[0].length, 5));
  await check('bigquery: a job is cancelled', async () => {
    const [job] = await client.createQueryJob({query: 'SELECT 1'});
    assert.equal((await job.cancel())[0].kind, 'bigquery#jobCancelResponse');
  });
  await check('bigquery: IAM of a table', async () => {
    await table('all').setIamPolicy({bindings: [{role: 'roles/bigquery.dataViewer', members: ['user:a@b.c']}]});
    assert.equal((await table('all').getIamPolicy())[0].bindings[0].members[0], 'user:a@b.c');
    assert.deepEqual((await table('all').testIamPermissions(['bigquery.tables.get']))[0].permissions, ['bigquery.tables.get']);
  });
  await check('bigquery: a table is deleted', async () => {
    await table('clone').delete();
    assert.equal((await table('clone').exists())[0], false);
  });
  await check('bigquery: a full dataset is not deleted', () => refused(() => dataset.delete(), 400));
  await check('bigquery: a dataset is deleted with its tables', async () => {
    await dataset.delete({force: true});
    assert.equal((await dataset.exists())[0], false);
  });
  await bucket.deleteFiles({force: true});
  await bucket.delete();
  await rm(folder, {recursive: true});
}
