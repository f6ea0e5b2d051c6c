-- Projects as a tree: each with its document, of which name and parent are copies, and whether it is stopped.

ALTER TABLE projects ADD COLUMN status TEXT NOT NULL DEFAULT 'active';
ALTER TABLE projects ADD COLUMN parent TEXT;
-- NULL for one that sets nothing, as all did before.
ALTER TABLE projects ADD COLUMN document TEXT;
