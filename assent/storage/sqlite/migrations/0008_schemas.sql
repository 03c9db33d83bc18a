-- What an answer must be like. What was asked before is in the thread's checkpoint alone.

ALTER TABLE approvals ADD COLUMN schema TEXT;
