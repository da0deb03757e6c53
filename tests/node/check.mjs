// Google's own Node clients against a running sandbox: BigQuery, Cloud Storage, Cloud Scheduler, Secret Manager.
// usage: node check.mjs http://127.0.0.1:PORT [PROJECT]      exit code 1 when a check fails

import {Storage} from '@google-cloud/storage';
import {BigQuery} from '@google-cloud/bigquery';
import {PassThroughClient} from 'google-auth-library';

import {bigquery} from './bigquery.mjs';
import {summary} from './harness.mjs';
import {scheduler, secrets} from './services.mjs';
import {storage} from './storage.mjs';

const [endpoint, projectId = 'demo-project'] = process.argv.slice(2);
if (!endpoint) {
  console.error('error: which sandbox?\nhint: node check.mjs http://127.0.0.1:PORT [PROJECT]');
  process.exit(2);
}
const authClient = new PassThroughClient();
const run = `${Date.now()}`;
const buckets = new Storage({projectId, apiEndpoint: endpoint, authClient});
await storage(buckets, run);
await bigquery(new BigQuery({projectId, apiEndpoint: endpoint, authClient, location: 'EU'}), buckets, run);
await scheduler(endpoint, projectId, run);
await secrets(endpoint, projectId, run);
// Not at once: what was printed goes out first. Idle connections would keep the process.
process.exitCode = summary();
setTimeout(() => process.exit(), 200).unref();
