// Submits certificates at a fixed rate with k6, for people who prefer it to
// `./task bench`. The requests come from a file, since k6 makes no CSRs:
//
//   ./task bench -- --targets requests.json --count 5000
//   SSL_CERT_FILE=.certctl/ca.crt k6 run -e REQUESTS=$PWD/requests.json -e KEY_FILE=$PWD/.certctl/admin.key \
//     -e RATE=50 -e SECONDS=60 deploy/test/bench/k6.js
//
// It needs REQUESTS with at least RATE × SECONDS lines: a name can be had once.
import encoding from "k6/encoding";
import http from "k6/http";
import { check } from "k6";
import { SharedArray } from "k6/data";
import exec from "k6/execution";

const rate = Number(__ENV.RATE || 50);
const seconds = Number(__ENV.SECONDS || 60);
const key = open(__ENV.KEY_FILE).trim();
const requests = new SharedArray("requests", () => open(__ENV.REQUESTS).trim().split("\n"));

if (requests.length < rate * seconds) {
  throw new Error(`${__ENV.REQUESTS} has ${requests.length} requests, and ${rate * seconds} are needed`);
}

export const options = {
  scenarios: {
    submit: {
      executor: "constant-arrival-rate",
      rate: rate,
      duration: `${seconds}s`,
      preAllocatedVUs: 64,
      maxVUs: 1024,
    },
  },
  thresholds: { checks: ["rate==1"] },
};

export default function () {
  const n = exec.scenario.iterationInTest;
  if (n >= requests.length) {
    return; // k6 may begin one more than the rate says
  }
  const request = JSON.parse(requests[n]);
  const answer = http.request(request.method, request.url, encoding.b64decode(request.body, "std", "s"), {
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${key}` },
  });
  check(answer, { "accepted": (a) => a.status === 201 });
}
