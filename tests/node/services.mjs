// Cloud Scheduler and Secret Manager through their Node clients, over REST.

import assert from 'node:assert/strict';
import {createServer} from 'node:http';

import {CloudSchedulerClient} from '@google-cloud/scheduler';
import {SecretManagerServiceClient} from '@google-cloud/secret-manager';
import {GoogleAuth, PassThroughClient} from 'google-auth-library';

import {check, refused} from './harness.mjs';

function options(endpoint, projectId) {
  const {hostname, port} = new URL(endpoint);
  const auth = new GoogleAuth({projectId, authClient: new PassThroughClient()});
  return {auth, projectId, apiEndpoint: hostname, port: Number(port), protocol: 'http', fallback: true};
}

export async function scheduler(endpoint, projectId, run) {
  const client = new CloudSchedulerClient(options(endpoint, projectId));
  const parent = `projects/${projectId}/locations/europe-west1`;
  const name = `${parent}/jobs/node-${run}`;
  const hits = [];
  const target = createServer((request, answer) => {
    let body = '';
    request.on('data', piece => (body += piece));
    request.on('end', () => {
      hits.push({url: request.url, body, headers: request.headers});
      answer.end();
    });
  });
  await new Promise(ready => target.listen(0, '127.0.0.1', ready));
  const uri = `http://127.0.0.1:${target.address().port}/run`;

  await check('scheduler: create', async () => {
    const [job] = await client.createJob({
      parent,
      job: {
        name, schedule: '0 2 * * *', timeZone: 'Europe/Berlin', description: 'daily',
        httpTarget: {uri, httpMethod: 'POST', body: Buffer.from('{"mode":"dry_run"}'), headers: {'Content-Type': 'application/json'}},
      },
    });
    assert.deepEqual([job.name, job.state], [name, 'ENABLED']);
  });
  await check('scheduler: get', async () => {
    const [job] = await client.getJob({name});
    assert.deepEqual([job.schedule, job.timeZone, job.httpTarget.uri], ['0 2 * * *', 'Europe/Berlin', uri]);
  });
  await check('scheduler: list', async () => assert.ok((await client.listJobs({parent}))[0].some(job => job.name === name)));
  await check('scheduler: the same job again', () => refused(() => client.createJob({parent, job: {name, schedule: '0 2 * * *', httpTarget: {uri}}}), 409));
  await check('scheduler: a schedule that is none', () =>
    refused(() => client.createJob({parent, job: {name: `${name}-x`, schedule: 'now and then', httpTarget: {uri}}}), 400));
  await check('scheduler: pause', async () => assert.equal((await client.pauseJob({name}))[0].state, 'PAUSED'));
  await check('scheduler: paused is told', async () => assert.equal((await client.getJob({name}))[0].state, 'PAUSED'));
  await check('scheduler: resume', async () => assert.equal((await client.resumeJob({name}))[0].state, 'ENABLED'));
  await check('scheduler: run calls the target', async () => {
    await client.runJob({name});
    for (let waited = 0; hits.length === 0 && waited < 100; waited += 1) await new Promise(done => setTimeout(done, 100));
    assert.deepEqual([hits[0].url, hits[0].body, hits[0].headers['x-cloudscheduler']], ['/run', '{"mode":"dry_run"}', 'true']);
  });
  await check('scheduler: update by mask', async () => {
    const [job] = await client.updateJob({job: {name, schedule: '30 3 * * 0'}, updateMask: {paths: ['schedule']}});
    assert.deepEqual([job.schedule, job.description], ['30 3 * * 0', 'daily']);
  });
  await check('scheduler: delete', async () => {
    await client.deleteJob({name});
    return refused(() => client.getJob({name}), 404);
  });
  target.close();
  await client.close();
}

export async function secrets(endpoint, projectId, run) {
  const client = new SecretManagerServiceClient(options(endpoint, projectId));
  const parent = `projects/${projectId}`;
  const secretId = `node-${run}`;
  const name = `${parent}/secrets/${secretId}`;
  const access = async version => Buffer.from((await client.accessSecretVersion({name: `${name}/versions/${version}`}))[0].payload.data);

  await check('secrets: create', async () => {
    const [secret] = await client.createSecret({parent, secretId, secret: {replication: {automatic: {}}, labels: {a: 'b'}}});
    assert.deepEqual([secret.name.endsWith(`/secrets/${secretId}`), secret.labels], [true, {a: 'b'}]);
  });
  await check('secrets: the same again', () =>
    refused(() => client.createSecret({parent, secretId, secret: {replication: {automatic: {}}}}), 409));
  await check('secrets: versions are added and read', async () => {
    await client.addSecretVersion({parent: name, payload: {data: Buffer.from('one')}});
    await client.addSecretVersion({parent: name, payload: {data: Buffer.from([0, 255, 2])}});
    assert.deepEqual([String(await access(1)), [...(await access('latest'))]], ['one', [0, 255, 2]]);
  });
  await check('secrets: versions are listed', async () => {
    const [versions] = await client.listSecretVersions({parent: name});
    assert.deepEqual(versions.map(version => version.state), ['ENABLED', 'ENABLED']);
  });
  await check('secrets: secrets are listed', async () => assert.ok((await client.listSecrets({parent}))[0].some(one => one.name.endsWith(secretId))));
  await check('secrets: labels are updated', async () => {
    const [secret] = await client.updateSecret({secret: {name, labels: {c: 'd'}}, updateMask: {paths: ['labels']}});
    assert.deepEqual(secret.labels, {c: 'd'});
  });
  await check('secrets: a disabled version is not read', async () => {
    assert.equal((await client.disableSecretVersion({name: `${name}/versions/1`}))[0].state, 'DISABLED');
    const said = await refused(() => access(1), 400);
    assert.equal((await client.enableSecretVersion({name: `${name}/versions/1`}))[0].state, 'ENABLED');
    return said;
  });
  await check('secrets: a destroyed version is gone', async () => {
    assert.equal((await client.destroySecretVersion({name: `${name}/versions/1`}))[0].state, 'DESTROYED');
    return refused(() => access(1), 400);
  });
  await check('secrets: IAM get, set', async () => {
    await client.setIamPolicy({resource: name, policy: {bindings: [{role: 'roles/viewer', members: ['user:a@b.c']}]}});
    assert.equal((await client.getIamPolicy({resource: name}))[0].bindings[0].members[0], 'user:a@b.c');
  });
  await check('secrets: delete', async () => {
    await client.deleteSecret({name});
    return refused(() => client.getSecret({name}), 404);
  });
  await client.close();
}
