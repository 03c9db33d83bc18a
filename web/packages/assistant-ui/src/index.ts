export { AssentApproval, WORDS, type Words } from "./approval.tsx";
export { approvalOf, toMessage, type AssentArtifact } from "./messages.ts";
export {
  AssentExtras,
  type AssentRuntimeOptions,
  type AssentThread,
  decisionOf,
  useAssentRuntime,
  useAssentThread,
} from "./runtime.ts";
