/** The page's icons: 16 x 16, drawn with the colour of the text that they stand beside. */

import type { ReactNode, SVGProps } from "react";

type IconProps = Omit<SVGProps<SVGSVGElement>, "children">;

function icon(name: string, drawing: ReactNode) {
  function Icon(props: IconProps) {
    return (
      <svg
        width={16}
        height={16}
        viewBox="0 0 16 16"
        fill="none"
        stroke="currentColor"
        strokeWidth={1.5}
        strokeLinecap="round"
        strokeLinejoin="round"
        aria-hidden="true"
        focusable="false"
        {...props}
      >
        {drawing}
      </svg>
    );
  }
  Icon.displayName = name;
  return Icon;
}

export const ChatIcon = icon("ChatIcon", <path d="M2.5 3.5h11v7.5h-6L4.5 13.5V11h-2z" />);
export const InboxIcon = icon(
  "InboxIcon",
  <path d="M2 9.5h3.2c.3 1.2 1.4 2 2.8 2s2.5-.8 2.8-2H14M2 9.5 4 3.5h8l2 6v3.5H2z" />,
);
export const RunsIcon = icon(
  "RunsIcon",
  <path d="M2.5 4h6M5.5 8h7M3.5 12h5M11.5 4h2M2.5 8h.01M11.5 12h2" />,
);
export const ClockIcon = icon(
  "ClockIcon",
  <>
    <circle cx="8" cy="8" r="5.75" />
    <path d="M8 4.75V8l2.25 1.5" />
  </>,
);
export const KeyIcon = icon(
  "KeyIcon",
  <>
    <circle cx="5.25" cy="8" r="2.75" />
    <path d="M8 8h6M11.5 8v2M14 8v1.5" />
  </>,
);
export const ShieldIcon = icon(
  "ShieldIcon",
  <path d="M8 1.75 13 3.5v4c0 3.2-2 5.7-5 6.75-3-1.05-5-3.55-5-6.75v-4z" />,
);
export const GraphIcon = icon(
  "GraphIcon",
  <>
    <circle cx="4" cy="4" r="1.75" />
    <circle cx="12" cy="8" r="1.75" />
    <circle cx="4" cy="12" r="1.75" />
    <path d="M5.7 4.8 10.3 7.2M5.7 11.2l4.6-2.4" />
  </>,
);
export const BellIcon = icon(
  "BellIcon",
  <path d="M4 11V7a4 4 0 0 1 8 0v4l1 1H3zM6.75 13.75h2.5" />,
);
export const LockIcon = icon(
  "LockIcon",
  <>
    <rect x="3.5" y="7.25" width="9" height="6.25" rx="1.25" />
    <path d="M5.5 7.25V5.5a2.5 2.5 0 0 1 5 0v1.75" />
  </>,
);
export const CheckIcon = icon("CheckIcon", <path d="m3 8.5 3.25 3.25L13 4.75" />);
export const CrossIcon = icon("CrossIcon", <path d="m4 4 8 8M12 4l-8 8" />);
export const PlusIcon = icon("PlusIcon", <path d="M8 3v10M3 8h10" />);
export const EditIcon = icon("EditIcon", <path d="M3 13v-2.5L10.5 3 13 5.5 5.5 13zM9 4.5 11.5 7" />);
export const ChevronIcon = icon("ChevronIcon", <path d="m6 4 4 4-4 4" />);
export const ChevronDownIcon = icon("ChevronDownIcon", <path d="m4 6 4 4 4-4" />);
export const CopyIcon = icon(
  "CopyIcon",
  <path d="M6 6h7v7H6zM10 6V3H3v7h3" />,
);
export const FileIcon = icon(
  "FileIcon",
  <path d="M12.5 7.25 7.6 12.1a2.9 2.9 0 0 1-4.1-4.1l5.1-5.1a1.95 1.95 0 0 1 2.75 2.75l-5 5a.95.95 0 0 1-1.35-1.35l4.4-4.4" />,
);
export const DownloadIcon = icon("DownloadIcon", <path d="M8 2.5v7.5M4.75 7 8 10.25 11.25 7M3 13.25h10" />);
export const SearchIcon = icon(
  "SearchIcon",
  <>
    <circle cx="7" cy="7" r="4.25" />
    <path d="m10.25 10.25 3.25 3.25" />
  </>,
);
export const FilterIcon = icon("FilterIcon", <path d="M2.5 4h11M4.5 8h7M6.5 12h3" />);
export const WarningIcon = icon(
  "WarningIcon",
  <path d="M8 2.5 14.25 13.25H1.75zM8 6.5v3.25M8 11.5v.01" />,
);
export const InfoIcon = icon(
  "InfoIcon",
  <>
    <circle cx="8" cy="8" r="5.75" />
    <path d="M8 7.5v3.25M8 5.25v.01" />
  </>,
);
export const SunIcon = icon(
  "SunIcon",
  <>
    <circle cx="8" cy="8" r="2.75" />
    <path d="M8 1.75v1.5M8 12.75v1.5M1.75 8h1.5M12.75 8h1.5M3.6 3.6l1.05 1.05M11.35 11.35l1.05 1.05M12.4 3.6l-1.05 1.05M4.65 11.35 3.6 12.4" />
  </>,
);
export const MoonIcon = icon("MoonIcon", <path d="M13 9.25A5.5 5.5 0 0 1 6.75 3 5.5 5.5 0 1 0 13 9.25z" />);
export const MoreIcon = icon("MoreIcon", <path d="M3.5 8h.01M8 8h.01M12.5 8h.01" strokeWidth={2.25} />);
export const MenuIcon = icon("MenuIcon", <path d="M2.5 4.5h11M2.5 8h11M2.5 11.5h11" />);
export const SendIcon = icon("SendIcon", <path d="M8 13.25V3M3.75 7.25 8 3l4.25 4.25" />);
export const StopIcon = icon("StopIcon", <rect x="4" y="4" width="8" height="8" rx="1.5" />);
export const RetryIcon = icon("RetryIcon", <path d="M13 8a5 5 0 1 1-1.6-3.65M13 2.5v2.75h-2.75" />);
export const PersonIcon = icon(
  "PersonIcon",
  <>
    <circle cx="8" cy="5.25" r="2.5" />
    <path d="M3 13.5c.5-2.6 2.5-4 5-4s4.5 1.4 5 4" />
  </>,
);
export const SparkIcon = icon("SparkIcon", <path d="M8 2v3.5M8 10.5V14M2 8h3.5M10.5 8H14M4.5 4.5l1.25 1.25M10.25 10.25l1.25 1.25M11.5 4.5l-1.25 1.25M5.75 10.25 4.5 11.5" />);
export const ToolIcon = icon("ToolIcon", <path d="M9.5 6.5 3 13M9 3.25A3.25 3.25 0 0 1 13.25 7l-2-.5-.75-.75-.5-2a3.25 3.25 0 0 0-1-.5z" />);
export const ForkIcon = icon(
  "ForkIcon",
  <>
    <circle cx="4" cy="3.5" r="1.5" />
    <circle cx="12" cy="3.5" r="1.5" />
    <circle cx="4" cy="12.5" r="1.5" />
    <path d="M4 5v6M12 5v1.5c0 1.5-1 2.5-2.5 2.5H4" />
  </>,
);
export const OfflineIcon = icon("OfflineIcon", <path d="M2.5 2.5l11 11M4 6.5a7 7 0 0 1 2-1.2M9 5.05c1.15.2 2.15.7 3 1.45M6 9.25c.5-.45 1.15-.75 1.75-.75M8 12v.01" />);
export const ArrowOutIcon = icon("ArrowOutIcon", <path d="M6 3.5H3.5v9h9V10M9 3.5h3.5V7M12.25 3.75 7.5 8.5" />);
export const KeyboardIcon = icon(
  "KeyboardIcon",
  <path d="M1.75 4.25h12.5v7.5H1.75zM4.25 6.75h.01M6.75 6.75h.01M9.25 6.75h.01M11.75 6.75h.01M5.5 9.25h5" />,
);
