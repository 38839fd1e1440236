BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE current_value (
	device_id BIGINT NOT NULL, 
	path TEXT NOT NULL, 
	value TEXT NOT NULL, 
	time_ms BIGINT NOT NULL, 
	seq BIGINT NOT NULL, 
	PRIMARY KEY (device_id, path)
)
 WITHOUT ROWID

;
INSERT INTO "current_value" VALUES(1,'/3303/0/5601','1.0',1760000000002,2);
INSERT INTO "current_value" VALUES(1,'/3303/0/5700','21.5',1760000000002,2);
CREATE TABLE device_log (
	device_id BIGINT NOT NULL, 
	tag BIGINT NOT NULL, 
	seq BIGINT NOT NULL, 
	time_ms BIGINT NOT NULL, 
	event TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	PRIMARY KEY (device_id, tag)
)
 WITHOUT ROWID

;
INSERT INTO "device_log" VALUES(1,1,1,1760000000001,'registration','ep=urn:imei:dev-1&lwm2m=1.1&lt=300 from udp://192.0.2.7:5683');
CREATE TABLE device_model (
	device_id INTEGER NOT NULL, 
	version TEXT NOT NULL, 
	body BLOB NOT NULL, 
	PRIMARY KEY (device_id)
);
INSERT INTO "device_model" VALUES(1,'1.1',X'3C2F312F303E2C3C2F332F303E2C3C2F333330332F303E3B7665723D22312E3122');
CREATE TABLE device_state (
	device_id INTEGER NOT NULL, 
	status TEXT NOT NULL, 
	last_seen_ms BIGINT NOT NULL, 
	registered_ms BIGINT NOT NULL, 
	updated_ms BIGINT NOT NULL, 
	deregistered_ms BIGINT NOT NULL, 
	expired_ms BIGINT NOT NULL, 
	message_tag BIGINT NOT NULL, 
	message_oldest BIGINT NOT NULL, 
	message_bytes BIGINT NOT NULL, 
	message_ms BIGINT NOT NULL, 
	log_tag BIGINT NOT NULL, 
	log_oldest BIGINT NOT NULL, 
	seq BIGINT NOT NULL, endpoint_name TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY (device_id)
);
INSERT INTO "device_state" VALUES(1,'registered',1760000000003,1760000000001,1760000000003,0,0,3,1,312,1760000000003,1,1,3,'urn:imei:dev-1');
CREATE TABLE projection (
	id INTEGER NOT NULL, 
	seq BIGINT NOT NULL, 
	removals BIGINT NOT NULL, 
	failures BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "projection" VALUES(1,3,1,0);
CREATE TABLE received_message (
	device_id BIGINT NOT NULL, 
	state_tag BIGINT NOT NULL, 
	resource_id TEXT NOT NULL, 
	resource_name TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	content_size BIGINT NOT NULL, 
	content_info TEXT, 
	creator TEXT NOT NULL, 
	labels TEXT NOT NULL, 
	content TEXT NOT NULL, 
	seq BIGINT NOT NULL, 
	PRIMARY KEY (device_id, state_tag)
)
 WITHOUT ROWID

;
INSERT INTO "received_message" VALUES(1,1,'000000010000000001aebb56','25f9b891-c755-8c9f-aadc-aea74ee61b3a',1760000000001,80,'application/json:0','CNI-IPE','[]','{"nodeResourceName":"meter-1","time":1760000000001,"messageType":"registration"}',1);
INSERT INTO "received_message" VALUES(1,2,'00000001000000000216ab49','d39d7aa7-8510-8672-ac8f-4f78536b99fe',1760000000002,118,'application/json:0','CNI-IPE','["Room:1"]','{"nodeResourceName":"meter-1","time":1760000000002,"messageType":"send","data":{"3303/0/5700":21.5,"3303/0/5601":1.0}}',2);
INSERT INTO "received_message" VALUES(1,3,'000000010000000003e4c7fa','a1dac10f-44ab-8f08-af82-247682a4626b',1760000000003,114,'application/json:0','CNI-IPE','[]','{"nodeResourceName":"meter-1","time":1760000000003,"messageType":"update","messageTypeName":"registration-update"}',3);
CREATE TABLE value_history (
	device_id BIGINT NOT NULL, 
	newest_ms BIGINT NOT NULL, 
	seq BIGINT NOT NULL, 
	oldest_ms BIGINT NOT NULL, 
	packed BLOB NOT NULL, 
	PRIMARY KEY (device_id, newest_ms, seq)
)
 WITHOUT ROWID

;
INSERT INTO "value_history" VALUES(1,1760000000002,2,1760000000002,X'9293AC2F333330332F302F35373030A432312E35CF00000199C82CC00293AC2F333330332F302F35363031A3312E30CF00000199C82CC002');
COMMIT;
