// Runs named checks one after the other and counts them. Knows no service.

import assert from 'node:assert/strict';

const tally = {passed: 0, failed: 0};
const PATIENCE_MS = 60_000;

/** Runs one check; what it returns is printed beside its name. */
export async function check(name, work) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end after ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  try {
    const said = await Promise.race([work(), late]);
    tally.passed += 1;
    console.log(`PASS ${name}${said === undefined ? '' : ` (${said})`}`);
  } catch (error) {
    tally.failed += 1;
    console.log(`FAIL ${name}: ${String(error?.message ?? error).replaceAll('\n', ' ').slice(0, 400)}`);
  } finally {
    clearTimeout(timer);
  }
}

/** The work must be refused with this HTTP status, and with this reason where one is named. */
export async function refused(work, code, reason) {
  let error;
  try {
    await work();
  } catch (caught) {
    error = caught;
  }
  assert.ok(error, `expected ${code}, but it was carried out`);
  const said = error.code ?? error.status ?? error.response?.status;
  assert.equal(said, code, `${said}: ${error.message}`);
  if (reason) {
    const reasons = (error.errors ?? []).map(one => one.reason);
    assert.ok(reasons.includes(reason), `expected ${reason}, got ${reasons}`);
  }
  return `${code}${reason ? ` ${reason}` : ''}`;
}

/** Prints the sum; the process's exit code. */
export function summary() {
  console.log(`node clients: ${tally.passed} passed, ${tally.failed} failed`);
  return tally.failed === 0 && tally.passed >= 90 ? 0 : 1;
}
