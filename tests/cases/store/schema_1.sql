-- Schema 1 as it was released, with a few rows. It is never changed: a store like this has to come up to date.
BEGIN TRANSACTION;
CREATE TABLE annotators (
	id VARCHAR(32) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	name TEXT, 
	fingerprint TEXT, 
	role VARCHAR(16) DEFAULT 'annotator' NOT NULL, 
	CONSTRAINT pk_annotators PRIMARY KEY (id), 
	CONSTRAINT ck_annotators_kind_is_known CHECK (kind IN ('human', 'llm', 'principle', 'rule', 'reward_model', 'simulated', 'unknown')), 
	CONSTRAINT ck_annotators_role_is_known CHECK (role IN ('judge', 'annotator', 'adjudicator', 'manager', 'owner'))
);
INSERT INTO "annotators" VALUES('5ebe0a7b2c220e07205319fa53505cca','human',NULL,NULL,'annotator');
INSERT INTO "annotators" VALUES('df7269167ee3401772f9696860dd48c1','human','w1',NULL,'annotator');
CREATE TABLE events (
	id VARCHAR(32) NOT NULL, 
	at DOUBLE NOT NULL, 
	actor TEXT NOT NULL, 
	action TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	before_hash TEXT, 
	after_hash TEXT, 
	detail TEXT, 
	CONSTRAINT pk_events PRIMARY KEY (id)
);
INSERT INTO "events" VALUES('a2dbad7e83757bfe7de2413b5f69bec7',1.79616685170146727561e+09,'guerdon','import','',NULL,NULL,'{"annotators":2,"items":3,"judge_calls":0,"judgments":3,"labels":0,"prompts":2,"responses":6}');
INSERT INTO "events" VALUES('e074234c4f69d6d18dbccea0cae5edf8',1.7961668519466619492e+09,'guerdon','import','',NULL,NULL,'{"annotators":0,"items":0,"judge_calls":0,"judgments":0,"labels":1,"prompts":0,"responses":0}');
CREATE TABLE guerdon_schema (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT guerdon_schema_pkc PRIMARY KEY (version_num)
);
INSERT INTO "guerdon_schema" VALUES('1');
CREATE TABLE item_responses (
	item_id VARCHAR(32) NOT NULL, 
	position INTEGER NOT NULL, 
	response_id VARCHAR(32) NOT NULL, 
	CONSTRAINT pk_item_responses PRIMARY KEY (item_id, position), 
	CONSTRAINT ck_item_responses_position_is_not_negative CHECK (position >= 0), 
	CONSTRAINT fk_item_responses_item_id FOREIGN KEY(item_id) REFERENCES items (id), 
	CONSTRAINT fk_item_responses_response_id FOREIGN KEY(response_id) REFERENCES responses (id)
)
 WITHOUT ROWID

;
INSERT INTO "item_responses" VALUES('a1c4e699798cb12f33f6a5d701a339b5',0,'1343e586d35e9f85e9af1e28d82eb63a');
INSERT INTO "item_responses" VALUES('a1c4e699798cb12f33f6a5d701a339b5',1,'4dd74de79e3c2f7617663bf28e85b10f');
INSERT INTO "item_responses" VALUES('a1c4e699798cb12f33f6a5d701a339b5',2,'cd6e71d892d40d7305a2daa4fcb4a654');
INSERT INTO "item_responses" VALUES('a6517dd86f1c93146a4aec57675599ca',0,'605dafbc566da8d9b5cb935f78e8fc50');
INSERT INTO "item_responses" VALUES('a6517dd86f1c93146a4aec57675599ca',1,'b4d462078d3ea3c8e3b5485a4e369d92');
INSERT INTO "item_responses" VALUES('f6f4c6da0b91b4c2409ba2a5cec92aba',0,'605dafbc566da8d9b5cb935f78e8fc50');
INSERT INTO "item_responses" VALUES('f6f4c6da0b91b4c2409ba2a5cec92aba',1,'762c7d62c118fcf3b455f3aa4abd9d52');
INSERT INTO "item_responses" VALUES('f6f4c6da0b91b4c2409ba2a5cec92aba',2,'b4d462078d3ea3c8e3b5485a4e369d92');
CREATE TABLE items (
	id VARCHAR(32) NOT NULL, 
	project TEXT NOT NULL, 
	prompt_id VARCHAR(32) NOT NULL, 
	purpose VARCHAR(16) DEFAULT 'task' NOT NULL, 
	need INTEGER DEFAULT 1 NOT NULL, 
	taken INTEGER DEFAULT 0 NOT NULL, 
	status VARCHAR(16) DEFAULT 'open' NOT NULL, 
	priority INTEGER DEFAULT 0 NOT NULL, 
	ord INTEGER DEFAULT 0 NOT NULL, 
	selection TEXT, 
	CONSTRAINT pk_items PRIMARY KEY (id), 
	CONSTRAINT ck_items_purpose_is_known CHECK (purpose IN ('task', 'gold', 'attention', 'repeat', 'training', 'calibration')), 
	CONSTRAINT ck_items_status_is_known CHECK (status IN ('open', 'complete', 'adjudicate', 'retired')), 
	CONSTRAINT ck_items_counts_are_not_negative CHECK (need >= 0 AND taken >= 0), 
	CONSTRAINT fk_items_prompt_id FOREIGN KEY(prompt_id) REFERENCES prompts (id)
);
INSERT INTO "items" VALUES('a1c4e699798cb12f33f6a5d701a339b5','','b78eeb4b73d4aef4c4754b3e029f0b0d','task',1,1,'open',0,0,NULL);
INSERT INTO "items" VALUES('a6517dd86f1c93146a4aec57675599ca','','9d478fa9dc9102f5824bad9e3050d142','task',1,1,'open',0,0,NULL);
INSERT INTO "items" VALUES('f6f4c6da0b91b4c2409ba2a5cec92aba','','9d478fa9dc9102f5824bad9e3050d142','task',1,1,'open',0,0,NULL);
CREATE TABLE judge_calls (
	id VARCHAR(32) NOT NULL, 
	cache_key TEXT NOT NULL, 
	run_id TEXT NOT NULL, 
	item_id VARCHAR(32) NOT NULL, 
	annotator_id VARCHAR(32) NOT NULL, 
	shown TEXT NOT NULL, 
	sample_ix INTEGER DEFAULT 0 NOT NULL, 
	request TEXT NOT NULL, 
	response_raw TEXT, 
	finish_reason TEXT, 
	status VARCHAR(16) NOT NULL, 
	failure_code VARCHAR(32), 
	attempts TEXT, 
	tokens_in INTEGER, 
	tokens_cached INTEGER, 
	tokens_out INTEGER, 
	cost DOUBLE, 
	price_table TEXT, 
	latency_ms DOUBLE, 
	at DOUBLE, 
	CONSTRAINT pk_judge_calls PRIMARY KEY (id), 
	CONSTRAINT ck_judge_calls_failures_have_a_code CHECK ((status = 'failed') = (failure_code IS NOT NULL)), 
	CONSTRAINT ck_judge_calls_ok_calls_have_a_response CHECK (status <> 'ok' OR response_raw IS NOT NULL), 
	CONSTRAINT ck_judge_calls_status_is_known CHECK (status IN ('pending', 'failed', 'ok')), 
	CONSTRAINT fk_judge_calls_annotator_id FOREIGN KEY(annotator_id) REFERENCES annotators (id), 
	CONSTRAINT fk_judge_calls_item_id FOREIGN KEY(item_id) REFERENCES items (id), 
	CONSTRAINT uq_judge_calls_id_item_id_status UNIQUE (id, item_id, status)
);
CREATE TABLE judgments (
	id VARCHAR(32) NOT NULL, 
	item_id VARCHAR(32) NOT NULL, 
	presentation_id VARCHAR(32), 
	presentation_state VARCHAR(16), 
	call_id VARCHAR(32), 
	call_status VARCHAR(16), 
	revision INTEGER DEFAULT 1 NOT NULL, 
	supersedes_revision INTEGER, 
	groups TEXT, 
	q DOUBLE, 
	strength DOUBLE, 
	votes TEXT, 
	all_bad BOOLEAN DEFAULT 0 NOT NULL, 
	acceptable_upto INTEGER, 
	axes TEXT, 
	rationale TEXT, 
	flags TEXT, 
	source TEXT, 
	group_id TEXT, 
	weight DOUBLE, 
	comparison_id TEXT, 
	active_ms DOUBLE, 
	wall_ms DOUBLE, 
	late BOOLEAN DEFAULT 0 NOT NULL, 
	submitted_at DOUBLE, 
	idem_key TEXT, 
	payload_hash TEXT, 
	CONSTRAINT pk_judgments PRIMARY KEY (id), 
	CONSTRAINT ck_judgments_call_was_ok CHECK ((call_id IS NULL AND call_status IS NULL) OR (call_id IS NOT NULL AND call_status IS NOT NULL AND call_status = 'ok')), 
	CONSTRAINT ck_judgments_presentation_was_submitted CHECK ((presentation_id IS NULL AND presentation_state IS NULL) OR (presentation_id IS NOT NULL AND presentation_state IS NOT NULL AND presentation_state = 'submitted')), 
	CONSTRAINT ck_judgments_has_one_preference CHECK ((groups IS NULL) <> (q IS NULL)), 
	CONSTRAINT ck_judgments_rests_on_a_presentation_or_a_call CHECK ((presentation_id IS NULL) <> (call_id IS NULL)), 
	CONSTRAINT ck_judgments_revisions_follow_each_other CHECK ((revision = 1 AND supersedes_revision IS NULL) OR (revision > 1 AND supersedes_revision IS NOT NULL AND supersedes_revision = revision - 1)), 
	CONSTRAINT ck_judgments_q_is_a_probability CHECK (q IS NULL OR (q >= 0 AND q <= 1)), 
	CONSTRAINT fk_judgments_call_id_item_id_call_status FOREIGN KEY(call_id, item_id, call_status) REFERENCES judge_calls (id, item_id, status), 
	CONSTRAINT fk_judgments_call_id_supersedes_revision FOREIGN KEY(call_id, supersedes_revision) REFERENCES judgments (call_id, revision), 
	CONSTRAINT fk_judgments_presentation_id_item_id_presentation_state FOREIGN KEY(presentation_id, item_id, presentation_state) REFERENCES presentations (id, item_id, state), 
	CONSTRAINT fk_judgments_presentation_id_supersedes_revision FOREIGN KEY(presentation_id, supersedes_revision) REFERENCES judgments (presentation_id, revision), 
	CONSTRAINT uq_judgments_call_id_revision UNIQUE (call_id, revision), 
	CONSTRAINT uq_judgments_presentation_id_revision UNIQUE (presentation_id, revision)
);
INSERT INTO "judgments" VALUES('67c3c49aa0d27a93a45b0f344b27a28a','a6517dd86f1c93146a4aec57675599ca','c59bc8be4a6655d979a5ece1a8226ac9','submitted',NULL,NULL,1,NULL,NULL,0.75,NULL,'[2,1,0]',0,NULL,NULL,NULL,NULL,NULL,'g0',NULL,'0',NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO "judgments" VALUES('9c339ec41f360597925f4ea870334094','f6f4c6da0b91b4c2409ba2a5cec92aba','5be8bfc1ea848dcd64b8a9b367e0aa84','submitted',NULL,NULL,1,NULL,'[[1],[0,2]]',NULL,0.5,NULL,0,NULL,NULL,NULL,NULL,'made up',NULL,0.25,NULL,NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO "judgments" VALUES('d449e27753b781e46f2c8b687fa2287b','a1c4e699798cb12f33f6a5d701a339b5','73ae48ce9b365da29e7f2a519322aca8','submitted',NULL,NULL,1,NULL,'[[1],[0,2]]',NULL,0.5,NULL,0,NULL,NULL,NULL,NULL,'made up',NULL,0.25,NULL,NULL,NULL,0,NULL,NULL,NULL);
CREATE TABLE labels (
	id VARCHAR(32) NOT NULL, 
	item_id VARCHAR(32) NOT NULL, 
	method TEXT NOT NULL, 
	params TEXT NOT NULL, 
	groups TEXT, 
	q DOUBLE, 
	strength DOUBLE, 
	votes TEXT, 
	n_votes INTEGER NOT NULL, 
	n_eff DOUBLE, 
	entropy DOUBLE, 
	status VARCHAR(16) DEFAULT 'accepted' NOT NULL, 
	CONSTRAINT pk_labels PRIMARY KEY (id), 
	CONSTRAINT ck_labels_status_is_known CHECK (status IN ('accepted', 'adjudicate', 'rejected')), 
	CONSTRAINT ck_labels_has_one_preference CHECK ((groups IS NULL) <> (q IS NULL)), 
	CONSTRAINT ck_labels_has_votes CHECK (n_votes >= 1), 
	CONSTRAINT ck_labels_q_is_a_probability CHECK (q IS NULL OR (q >= 0 AND q <= 1)), 
	CONSTRAINT fk_labels_item_id FOREIGN KEY(item_id) REFERENCES items (id)
);
INSERT INTO "labels" VALUES('09a3ff1fece2f98f53f853fa308923ef','a6517dd86f1c93146a4aec57675599ca','majority','{}',NULL,0.75,NULL,'[2,1,0]',3,NULL,NULL,'accepted');
CREATE TABLE presentations (
	id VARCHAR(32) NOT NULL, 
	item_id VARCHAR(32) NOT NULL, 
	annotator_id VARCHAR(32) NOT NULL, 
	shown TEXT NOT NULL, 
	origin VARCHAR(16) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	slot INTEGER, 
	handles TEXT, 
	issued DOUBLE, 
	expires DOUBLE, 
	skip_reason TEXT, 
	ui_version TEXT, 
	guidelines_version TEXT, 
	CONSTRAINT pk_presentations PRIMARY KEY (id), 
	CONSTRAINT ck_presentations_origin_is_known CHECK (origin IN ('claimed', 'imported')), 
	CONSTRAINT ck_presentations_state_is_known CHECK (state IN ('held', 'released', 'expired', 'skipped', 'submitted')), 
	CONSTRAINT fk_presentations_annotator_id FOREIGN KEY(annotator_id) REFERENCES annotators (id), 
	CONSTRAINT fk_presentations_item_id FOREIGN KEY(item_id) REFERENCES items (id), 
	CONSTRAINT uq_presentations_id_item_id_state UNIQUE (id, item_id, state)
);
INSERT INTO "presentations" VALUES('5be8bfc1ea848dcd64b8a9b367e0aa84','f6f4c6da0b91b4c2409ba2a5cec92aba','df7269167ee3401772f9696860dd48c1','[0,2,1]','imported','submitted',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "presentations" VALUES('73ae48ce9b365da29e7f2a519322aca8','a1c4e699798cb12f33f6a5d701a339b5','df7269167ee3401772f9696860dd48c1','[2,1,0]','imported','submitted',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "presentations" VALUES('c59bc8be4a6655d979a5ece1a8226ac9','a6517dd86f1c93146a4aec57675599ca','5ebe0a7b2c220e07205319fa53505cca','[0,1]','imported','submitted',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE prompts (
	id VARCHAR(32) NOT NULL, 
	content TEXT NOT NULL, 
	CONSTRAINT pk_prompts PRIMARY KEY (id)
);
INSERT INTO "prompts" VALUES('9d478fa9dc9102f5824bad9e3050d142','{"prompt":[{"content":"Be brief.","role":"system"},{"content":"Question 0?","role":"user"}]}');
INSERT INTO "prompts" VALUES('b78eeb4b73d4aef4c4754b3e029f0b0d','{"prompt":[{"content":"Be brief.","role":"system"},{"content":"Question 1?","role":"user"}]}');
CREATE TABLE responses (
	id VARCHAR(32) NOT NULL, 
	prompt_id VARCHAR(32) NOT NULL, 
	content TEXT NOT NULL, 
	CONSTRAINT pk_responses PRIMARY KEY (id), 
	CONSTRAINT fk_responses_prompt_id FOREIGN KEY(prompt_id) REFERENCES prompts (id)
);
INSERT INTO "responses" VALUES('1343e586d35e9f85e9af1e28d82eb63a','b78eeb4b73d4aef4c4754b3e029f0b0d','{"text":"?"}');
INSERT INTO "responses" VALUES('4dd74de79e3c2f7617663bf28e85b10f','b78eeb4b73d4aef4c4754b3e029f0b0d','{"finish":"length","text":"no 1"}');
INSERT INTO "responses" VALUES('605dafbc566da8d9b5cb935f78e8fc50','9d478fa9dc9102f5824bad9e3050d142','{"author":"ada","finish":"stop","ratings":{"truth":4.0},"text":"yes"}');
INSERT INTO "responses" VALUES('762c7d62c118fcf3b455f3aa4abd9d52','9d478fa9dc9102f5824bad9e3050d142','{"text":"?"}');
INSERT INTO "responses" VALUES('b4d462078d3ea3c8e3b5485a4e369d92','9d478fa9dc9102f5824bad9e3050d142','{"finish":"length","text":"no 0"}');
INSERT INTO "responses" VALUES('cd6e71d892d40d7305a2daa4fcb4a654','b78eeb4b73d4aef4c4754b3e029f0b0d','{"author":"ada","finish":"stop","ratings":{"truth":4.0},"text":"yes"}');
CREATE INDEX ix_items_claimable ON items (project, priority, ord) WHERE taken < need AND status = 'open';
CREATE INDEX ix_presentations_item_id_annotator_id ON presentations (item_id, annotator_id);
CREATE UNIQUE INDEX uq_presentations_held_once ON presentations (item_id, annotator_id) WHERE state = 'held';
CREATE INDEX ix_judge_calls_cache_key ON judge_calls (cache_key);
CREATE INDEX ix_judge_calls_item_id ON judge_calls (item_id);
CREATE INDEX ix_judgments_item_id ON judgments (item_id);
CREATE INDEX ix_labels_item_id ON labels (item_id);
CREATE TRIGGER judgments_refuse_update BEFORE update ON judgments BEGIN SELECT RAISE(ABORT, 'judgments are never changed: add a revision'); END;
CREATE TRIGGER judgments_refuse_delete BEFORE delete ON judgments BEGIN SELECT RAISE(ABORT, 'judgments are never changed: add a revision'); END;
CREATE TRIGGER events_refuse_update BEFORE update ON events BEGIN SELECT RAISE(ABORT, 'events are never changed: add a revision'); END;
CREATE TRIGGER events_refuse_delete BEFORE delete ON events BEGIN SELECT RAISE(ABORT, 'events are never changed: add a revision'); END;
CREATE TRIGGER presentations_count_insert AFTER INSERT ON presentations WHEN NEW.state IN ('held', 'submitted')
    BEGIN UPDATE items SET taken = taken + 1 WHERE id = NEW.item_id; END;
CREATE TRIGGER presentations_count_update AFTER UPDATE ON presentations
    WHEN (OLD.state IN ('held', 'submitted')) <> (NEW.state IN ('held', 'submitted'))
    BEGIN UPDATE items SET taken = taken + CASE WHEN NEW.state IN ('held', 'submitted') THEN 1 ELSE -1 END WHERE id = NEW.item_id; END;
CREATE TRIGGER presentations_count_delete AFTER DELETE ON presentations WHEN OLD.state IN ('held', 'submitted')
    BEGIN UPDATE items SET taken = taken - 1 WHERE id = OLD.item_id; END;
CREATE TRIGGER presentations_keep_item BEFORE UPDATE OF item_id ON presentations WHEN OLD.item_id <> NEW.item_id
    BEGIN SELECT RAISE(ABORT, 'a presentation keeps its item'); END;
CREATE TRIGGER labels_need_judgments BEFORE INSERT ON labels
    WHEN NOT EXISTS (SELECT 1 FROM judgments WHERE judgments.item_id = NEW.item_id)
    BEGIN SELECT RAISE(ABORT, 'a label needs a judgment of its item'); END;
COMMIT;
