-- Where a callback goes, if its flow's control plane has asked for a place of its own. '': its endpoint.
ALTER TABLE callbacks ADD COLUMN send_to TEXT NOT NULL DEFAULT '';
