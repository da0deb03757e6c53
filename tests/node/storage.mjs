// Cloud Storage through @google-cloud/storage.

import assert from 'node:assert/strict';
import {createHash, randomBytes} from 'node:crypto';
import {Readable} from 'node:stream';
import {pipeline} from 'node:stream/promises';

import {check, refused} from './harness.mjs';

const BIG = randomBytes(3 * 1024 * 1024 + 17);
const md5 = bytes => createHash('md5').update(bytes).digest('base64');

export async function storage(client, run) {
  const name = `node-${run}`;
  const bucket = client.bucket(name);
  const save = (path, bytes, options = {}) => bucket.file(path).save(bytes, {resumable: false, ...options});
  const read = async (path, options = {}) => (await bucket.file(path, options).download())[0];
  const names = async query => (await bucket.getFiles(query))[0].map(file => file.name);

  await check('storage: create a bucket with a lifecycle', async () => {
    await client.createBucket(name, {
      location: 'EU',
      storageClass: 'STANDARD',
      versioning: {enabled: true},
      lifecycle: {
        rule: [
          {action: {type: 'SetStorageClass', storageClass: 'COLDLINE'}, condition: {age: 30}},
          {action: {type: 'Delete'}, condition: {age: 365, matchesPrefix: ['tmp/']}},
          {action: {type: 'AbortIncompleteMultipartUpload'}, condition: {age: 7}},
        ],
      },
    });
    const [metadata] = await bucket.getMetadata();
    assert.equal(metadata.lifecycle.rule.length, 3);
    assert.equal(metadata.lifecycle.rule[0].action.storageClass, 'COLDLINE');
    assert.deepEqual([metadata.location, metadata.versioning.enabled], ['EU', true]);
  });
  await check('storage: a bucket exists, another does not', async () => {
    assert.deepEqual([(await bucket.exists())[0], (await client.bucket(`${name}-none`).exists())[0]], [true, false]);
  });
  await check('storage: the same bucket again is 409', () => refused(() => client.createBucket(name), 409));
  await check('storage: buckets are listed', async () => {
    const [buckets] = await client.getBuckets({prefix: name});
    assert.deepEqual(buckets.map(one => one.name), [name]);
  });
  await check('storage: labels are set and removed', async () => {
    await bucket.setLabels({a: 'b', c: 'd'});
    await bucket.deleteLabels('c');
    assert.deepEqual((await bucket.getLabels())[0], {a: 'b'});
  });
  await check('storage: a lifecycle rule is added and all are replaced', async () => {
    await bucket.addLifecycleRule({action: {type: 'Delete'}, condition: {numNewerVersions: 3}});
    assert.equal((await bucket.getMetadata())[0].lifecycle.rule.length, 4);
    await bucket.addLifecycleRule({action: {type: 'Delete'}, condition: {age: 9}}, {append: false});
    assert.deepEqual((await bucket.getMetadata())[0].lifecycle.rule, [{action: {type: 'Delete'}, condition: {age: 9}}]);
  });
  await check('storage: a bucket\'s metageneration is a condition', async () => {
    const metageneration = Number((await bucket.getMetadata())[0].metageneration);
    return refused(() => bucket.setMetadata({labels: {x: 'y'}}, {ifMetagenerationMatch: metageneration + 7}), 412);
  });
  await check('storage: uniform access and public access prevention are kept', async () => {
    await bucket.setMetadata({iamConfiguration: {uniformBucketLevelAccess: {enabled: true}, publicAccessPrevention: 'enforced'}});
    const {iamConfiguration} = (await bucket.getMetadata())[0];
    assert.deepEqual([iamConfiguration.uniformBucketLevelAccess.enabled, iamConfiguration.publicAccessPrevention], [true, 'enforced']);
  });

  await check('storage: upload in one request, with metadata', async () => {
    await save('p/a.txt', 'hello', {contentType: 'text/plain', metadata: {metadata: {k: 'v'}}, validation: 'crc32c'});
    const [metadata] = await bucket.file('p/a.txt').getMetadata();
    assert.deepEqual([Number(metadata.size), metadata.contentType, metadata.metadata], [5, 'text/plain', {k: 'v'}]);
    assert.equal(metadata.md5Hash, md5('hello'));
    return `crc32c ${metadata.crc32c}`;
  });
  await check('storage: resumable upload in pieces', async () => {
    await save('p/big.bin', BIG, {resumable: true, chunkSize: 1024 * 1024});
    assert.equal((await bucket.file('p/big.bin').getMetadata())[0].md5Hash, md5(BIG));
  });
  await check('storage: resumable upload of a stream of unknown size', async () => {
    const pieces = [0, 1, 2, 3].map(at => BIG.subarray(at * 200_000, (at + 1) * 200_000));
    await pipeline(Readable.from(pieces), bucket.file('p/stream.bin').createWriteStream({resumable: true, chunkSize: 256 * 1024}));
    assert.ok((await read('p/stream.bin')).equals(BIG.subarray(0, 800_000)));
  });
  await check('storage: an upload session of one\'s own', async () => {
    const [uri] = await bucket.file('p/session.bin').createResumableUpload({metadata: {contentType: 'x/y'}});
    const answer = await fetch(uri, {method: 'PUT', body: 'abc'});
    assert.deepEqual([answer.status, (await answer.json()).contentType], [200, 'x/y']);
  });
  await check('storage: names in any alphabet', async () => {
    const path = 'ü/日本 +&?#%2F [x].txt';
    await save(path, 'x');
    assert.equal(String(await read(path)), 'x');
    assert.deepEqual(await names({prefix: 'ü/'}), [path]);
  });
  await check('storage: an empty object', async () => {
    await save('p/empty', '');
    assert.equal((await read('p/empty')).length, 0);
  });
  await check('storage: ifGenerationMatch 0 creates once', async () => {
    await save('p/once', '1', {preconditionOpts: {ifGenerationMatch: 0}});
    const said = await refused(() => save('p/once', '2', {preconditionOpts: {ifGenerationMatch: 0}}), 412);
    assert.equal(String(await read('p/once')), '1');
    return said;
  });
  await check('storage: the same for a resumable upload', () =>
    refused(() => save('p/once', BIG, {resumable: true, preconditionOpts: {ifGenerationMatch: 0}}), 412));
  await check('storage: a wrong checksum is refused', async () => {
    await refused(() => save('p/bad', 'zzz', {validation: false, metadata: {crc32c: 'AAAAAA=='}}), 400);
    assert.equal((await bucket.file('p/bad').exists())[0], false);
  });

  await check('storage: download with validation', async () => assert.ok((await read('p/big.bin')).equals(BIG)));
  await check('storage: download of a range', async () => {
    const [bytes] = await bucket.file('p/big.bin').download({start: 10, end: 19});
    assert.ok(bytes.equals(BIG.subarray(10, 20)));
  });
  await check('storage: download as a stream', async () => {
    const pieces = [];
    for await (const piece of bucket.file('p/big.bin').createReadStream()) pieces.push(piece);
    assert.ok(Buffer.concat(pieces).equals(BIG));
  });
  await check('storage: gzip is unpacked for the reader', async () => {
    await save('p/zipped', 'text '.repeat(1000), {gzip: true, contentType: 'text/plain'});
    assert.equal((await bucket.file('p/zipped').getMetadata())[0].contentEncoding, 'gzip');
    assert.equal(String(await read('p/zipped')), 'text '.repeat(1000));
  });
  await check('storage: download of nothing is 404', () => refused(() => bucket.file('none').download(), 404));
  await check('storage: metadata of nothing is 404', () => refused(() => bucket.file('none').getMetadata(), 404));

  await check('storage: list with prefix and delimiter', async () => {
    for (const at of [0, 1, 2, 3, 4]) await save(`l/d${at % 2}/f${at}`, 'x');
    const [files, , answer] = await bucket.getFiles({prefix: 'l/', delimiter: '/', autoPaginate: false});
    assert.deepEqual([files.length, answer.prefixes], [0, ['l/d0/', 'l/d1/']]);
  });
  await check('storage: list in pages', async () => {
    const sizes = [];
    let query = {prefix: 'l/', maxResults: 2, autoPaginate: false};
    while (query) {
      const [files, next] = await bucket.getFiles(query);
      sizes.push(files.length);
      query = next;
    }
    assert.deepEqual(sizes, [2, 2, 1]);
  });
  await check('storage: list between offsets', async () =>
    assert.deepEqual(await names({startOffset: 'l/d1', endOffset: 'p'}), ['l/d1/f1', 'l/d1/f3']));
  await check('storage: list by glob', async () => assert.deepEqual(await names({matchGlob: 'l/**/f3'}), ['l/d1/f3']));
  await check('storage: list as a stream', async () => {
    let count = 0;
    for await (const _ of bucket.getFilesStream({prefix: 'l/'})) count += 1;
    assert.equal(count, 5);
  });
  await check('storage: list with some fields', async () => {
    const [files] = await bucket.getFiles({prefix: 'l/', fields: 'items(name,size)'});
    // With fields, the client gives what was answered as it is.
    assert.deepEqual([files.length, Object.keys(files[0]).sort().join()], [5, 'name,size']);
  });

  await check('storage: compose', async () => {
    await bucket.combine(['p/a.txt', 'p/a.txt'], 'p/composed');
    const [metadata] = await bucket.file('p/composed').getMetadata();
    assert.equal(String(await read('p/composed')), 'hellohello');
    assert.equal(metadata.componentCount, 2);
  });
  await check('storage: change the storage class', async () => {
    await bucket.file('p/a.txt').setStorageClass('COLDLINE');
    const [metadata] = await bucket.file('p/a.txt').getMetadata();
    assert.deepEqual([metadata.storageClass, String(await read('p/a.txt'))], ['COLDLINE', 'hello']);
  });
  await check('storage: copy within and move', async () => {
    await bucket.file('p/big.bin').copy(bucket.file('p/copied.bin'));
    await bucket.file('p/copied.bin').move('p/moved.bin');
    assert.deepEqual([(await bucket.file('p/copied.bin').exists())[0], (await bucket.file('p/moved.bin').getMetadata())[0].md5Hash], [false, md5(BIG)]);
  });
  await check('storage: rename', async () => {
    await bucket.file('p/moved.bin').rename('p/renamed.bin');
    assert.equal((await bucket.file('p/renamed.bin').exists())[0], true);
  });
  await check('storage: copy to another bucket', async () => {
    const other = client.bucket(`${name}-2`);
    await other.create({location: 'US'});
    const [copy] = await bucket.file('p/big.bin').copy(other.file('copied'));
    assert.equal((await copy.getMetadata())[0].md5Hash, md5(BIG));
    await other.deleteFiles();
    await other.delete();
  });
  await check('storage: metadata, cache control, custom time', async () => {
    const file = bucket.file('p/once');
    await file.setMetadata({metadata: {z: '1'}, cacheControl: 'no-store', customTime: '2030-01-01T00:00:00Z'});
    const [metadata] = await file.getMetadata();
    assert.deepEqual([metadata.metadata, metadata.cacheControl], [{z: '1'}, 'no-store']);
    assert.equal(new Date(metadata.customTime).getTime(), Date.UTC(2030, 0, 1));
    await file.setMetadata({metadata: {z: null}});
    assert.equal((await file.getMetadata())[0].metadata?.z, undefined);
  });
  await check('storage: a custom time never goes back', () =>
    refused(() => bucket.file('p/once').setMetadata({customTime: '2029-01-01T00:00:00Z'}), 400));
  await check('storage: versions', async () => {
    await save('v/x', '1');
    const {generation} = (await bucket.file('v/x').getMetadata())[0];
    await save('v/x', '2');
    assert.equal((await bucket.getFiles({prefix: 'v/', versions: true}))[0].length, 2);
    assert.deepEqual([String(await read('v/x', {generation})), String(await read('v/x'))], ['1', '2']);
  });
  await check('storage: a hold forbids deletion', async () => {
    const file = bucket.file('h/x');
    await save('h/x', '1');
    await file.setMetadata({temporaryHold: true});
    const said = await refused(() => file.delete(), 403);
    await file.setMetadata({temporaryHold: false});
    await file.delete();
    return said;
  });
  await check('storage: a retention policy forbids deletion', async () => {
    const kept = client.bucket(`${name}-kept`);
    await kept.create({retentionPolicy: {retentionPeriod: 3600}});
    await kept.file('x').save('1', {resumable: false});
    const said = await refused(() => kept.file('x').delete(), 403);
    await kept.removeRetentionPeriod();
    await kept.file('x').delete();
    await kept.delete();
    return said;
  });
  await check('storage: a retention policy is locked', async () => {
    const locked = client.bucket(`${name}-locked`);
    await locked.create();
    await locked.setRetentionPeriod(60);
    const metageneration = (await locked.getMetadata())[0].metageneration;
    await locked.lock(metageneration);
    assert.equal((await locked.getMetadata())[0].retentionPolicy.isLocked, true);
    return refused(() => locked.removeRetentionPeriod(), 403);
  });
  await check('storage: soft deletion and restoring', async () => {
    const soft = client.bucket(`${name}-soft`);
    await soft.create({softDeletePolicy: {retentionDurationSeconds: 7 * 86400}});
    await soft.file('x').save('gone', {resumable: false});
    const {generation} = (await soft.file('x').getMetadata())[0];
    await soft.file('x').delete();
    assert.equal((await soft.getFiles({softDeleted: true}))[0].length, 1);
    await soft.file('x').restore({generation: Number(generation)});
    assert.equal(String((await soft.file('x').download())[0]), 'gone');
  });
  await check('storage: deletion under a wrong generation is 412', () =>
    refused(() => bucket.file('p/once').delete({ifGenerationMatch: 1}), 412));
  await check('storage: deletion, and again with ignoreNotFound', async () => {
    await bucket.file('p/once').delete();
    await refused(() => bucket.file('p/once').delete(), 404);
    await bucket.file('p/once').delete({ignoreNotFound: true});
  });
  await check('storage: IAM get, set, test', async () => {
    const [policy] = await bucket.iam.getPolicy();
    policy.bindings = [...(policy.bindings ?? []), {role: 'roles/storage.objectViewer', members: ['user:a@b.c']}];
    await bucket.iam.setPolicy(policy);
    const [again] = await bucket.iam.getPolicy();
    assert.ok(JSON.stringify(again).includes('user:a@b.c'));
    const [granted] = await bucket.iam.testPermissions(['storage.buckets.get']);
    assert.equal(granted['storage.buckets.get'], true);
  });
  await check('storage: a service account', async () => assert.match((await client.getServiceAccount())[0].emailAddress, /@/));
  await check('storage: a full bucket is not deleted', () => refused(() => bucket.delete(), 409));
  await check('storage: all files and the bucket are deleted', async () => {
    await bucket.deleteFiles({versions: true, force: true});
    await bucket.delete();
    assert.equal((await bucket.exists())[0], false);
  });
}
